"""The ground floor: types, configs, registries, search spaces and errors."""
