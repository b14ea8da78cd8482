"""The whole product in a minute (``play``), and the trap that it is made for in three (``trap``)."""
