"Scenes that are drawn, each with an exact mask."
