"""The screens: the microscope itself, and those that open over it."""
