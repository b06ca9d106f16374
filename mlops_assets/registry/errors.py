"""What can go wrong in the registry."""


class RegistryError(RuntimeError):
    """A model cannot be logged, found, loaded or switched; the message says why and what to do."""


class ModelNotFoundError(RegistryError):
    """No such family, version or alias; the message lists what there is."""


class PromotionError(RegistryError):
    """A promotion or rollback was refused. Nothing has changed."""
