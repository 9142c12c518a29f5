"""RFC 3261 table 4, in seconds."""

T1 = 0.5
T2 = 4.0
T4 = 5.0
TIMER_B = 64 * T1
TIMER_D = 32.0
PATIENCE_SECONDS = 6.0
"""How long a server may say nothing at all where there is another to ask: a fifth of Timer B."""
