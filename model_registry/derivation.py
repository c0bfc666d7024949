"""New rules over a model that is here already: what the new manifest must have in common with the model's version."""

from model_registry.errors import ManifestInvalid
from model_registry.manifest import Manifest

# What the model was inspected with. The rest (levels, days, rules, comment) are the bank's terms, and may change.
COMMON = ("product", "fields", "inputs", "output")


def check_derived(manifest: Manifest, base: Manifest, base_name: str) -> None:
    """Holds the manifest of replaced rules against that of the version whose model they are for.

    Raises:
        ManifestInvalid: names each member that differs.
    """
    differing = [name for name in COMMON if getattr(manifest, name) != getattr(base, name)]
    if manifest.digests.model != base.digests.model:
        differing.append("digests.model")
    if differing:
        public = f"{', '.join(differing)}: not as in {base_name}; submit model and rules together instead"
        raise ManifestInvalid("derived", public=public)
