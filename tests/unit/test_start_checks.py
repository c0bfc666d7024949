"""What a start does to its own process."""

import resource

from enclave_api.start_checks import allow_descriptors


def test_a_server_may_open_as_many_files_as_the_system_allows() -> None:
    """The soft bound that a shell gives, 1,024 on most systems, is lifted to the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        allow_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
