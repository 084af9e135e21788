"""Networks in C on emulated microcontrollers."""
