"""One whole call measured at the phone's end: latency, interruptions, A/V offset, bytes."""
