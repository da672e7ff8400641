"""What a finished job leaves for people: results, report, model card."""
