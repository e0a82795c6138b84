"""What Nav2 makes of our messages, without Nav2: its parameters, and what a costmap then holds."""
