"""Labels along long videos and live sources: windows, what they show, and a timeline of segments."""
