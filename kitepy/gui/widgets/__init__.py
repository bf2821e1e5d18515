"""Building blocks of the pages: painted and styled widgets that know nothing of containers or engines."""
