"""What a finished run means: rankings held against what was measured, as numbers, files and pictures."""
