"""Adapting to a deadline, the battery and the temperature. No torch."""

from edgewright.runtime.adaptation._controller import Change, Controller, Power
from edgewright.runtime.adaptation._device_pressure import DevicePressure, SensorWarning
from edgewright.runtime.adaptation._sensors import (
    BatterySensor,
    CallableSensor,
    FileSensor,
    Sensor,
    ThermalSensor,
)

__all__ = [
    "BatterySensor",
    "CallableSensor",
    "Change",
    "Controller",
    "DevicePressure",
    "FileSensor",
    "Power",
    "Sensor",
    "SensorWarning",
    "ThermalSensor",
]
