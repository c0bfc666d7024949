"""`python -m enclave_api`: the same as `heixia`."""

from enclave_api.cli.main import main

main()
