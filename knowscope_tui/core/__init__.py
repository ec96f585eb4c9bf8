"""The words of the field as plain values: standard library only, nothing here touches a tensor or a screen."""
