"""What the farm is measured against; nothing of the farm imports it."""
