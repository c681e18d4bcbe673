"""How long a test lets others take."""

#: Seconds: what waits in vain takes longer, by its own settings or without an end; and no machine is as slow as that.
IN_TIME = 20.0
