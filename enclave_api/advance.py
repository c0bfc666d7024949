"""Brings an old copy of the root secret to the log's time, where the newest is lost."""

from contextlib import ExitStack
from datetime import UTC, datetime

from audit.ledger import Ledger
from audit.schema import open_engine
from enclave_api.epoch_checks import check_epochs, check_key_ids, check_root
from enclave_api.errors import EpochDiffers
from enclave_api.home import Home, log_signer
from enclave_api.start_checks import alone
from model_registry.key_epochs import read_epochs


def advance_root(home: Home, passphrase: str | None) -> tuple[int, int]:
    """Destroys in the kept root secret the epochs whose destruction the log tells.

    Returns:
        The oldest epoch kept before, and now.

    Raises:
        HomeInvalid: a server uses the home, or the file cannot be written.
        PassphraseWrong, RootForeign, LedgerCorrupt, Database*: nothing was changed.
        EpochDiffers: the secret is ahead of the log; advancing does not help.
    """
    with ExitStack() as stack:
        stack.enter_context(alone(home))
        keeper = home.keeper(passphrase)
        before, origin = keeper.keys.epoch, home.settings().log_origin
        signer = log_signer(keeper.keys, origin)
        engine = open_engine(home.database, create=False)
        stack.callback(engine.dispose)
        check_root(engine, signer.verifiers)
        ledger = Ledger.open(engine, signer, origin, lambda: datetime.now(UTC))
        stack.callback(ledger.close)
        with engine.connect() as connection:
            epochs = read_epochs(connection)
        check_epochs(ledger, epochs)
        gone = sum(not one.alive for one in epochs)
        if before > gone:
            public = f"root.key begins at epoch {before}, the log at {gone}: a start says more"
            raise EpochDiffers("root newer", public=public)
        check_key_ids(keeper.keys, epochs)
        return before, keeper.advance(gone).epoch
