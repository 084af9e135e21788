"""Adapting to deadline, battery and heat. No torch."""

from edgewright.runtime.adaptation._controller import Change, Controller, Power
from edgewright.runtime.adaptation._senses import Senses, SensorWarning
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
    "FileSensor",
    "Power",
    "Senses",
    "Sensor",
    "SensorWarning",
    "ThermalSensor",
]
