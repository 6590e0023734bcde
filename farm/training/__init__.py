"""How networks are taught."""
