"""The SDK for department stewards: publish, load, stop."""

from collections.abc import Callable, Iterator
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from heixia.catalog.v1 import catalog_pb2 as pb
from heixia.catalog.v1 import catalog_pb2_grpc
from heixia.registry.v1 import registry_pb2, registry_pb2_grpc

from enclave_api.client.connection import UPLOAD_TIMEOUT_S, Client
from enclave_api.wire_limits import CHUNK_BYTES_MAX
from sandbox.vault.catalog import Dataset, layout_hash

Progress = Callable[[int], None]


class Steward(Client):
    """A department's steward."""

    def datasets(self, department: str = "") -> list[pb.Dataset]:
        """Every dataset, or one department's."""
        return list(self.call(self._stub.ListDatasets, pb.ListDatasetsRequest(department=department)).datasets)

    def publish(self, dataset: Dataset) -> pb.Dataset:
        """Opens a dataset for loading and use."""
        request = pb.PublishDatasetRequest(name=dataset.name, layout_hash=layout_hash(dataset))
        return self.call(self._stub.PublishDataset, request).dataset

    def load(
        self,
        dataset: Dataset,
        subjects: list[str],
        rows: bytes,
        event_at: datetime,
        progress: Progress = lambda _: None,
    ) -> pb.LoadDatasetResponse:
        """Loads packed records, all or nothing.

        Args:
            dataset: of the steward's own catalogue; its layout must be the enclave's.
            subjects: one a row.
            rows: the packed records, one after another (sandbox.vault.ingest.read_table makes them).
            event_at: what day the values describe.
            progress: told how many rows were sent so far.
        """
        parts = _parts(dataset, subjects, rows, event_at, progress)
        return self.call(self._stub.LoadDataset, parts, UPLOAD_TIMEOUT_S)

    def suspend(self, name: str, reason: str) -> pb.Dataset:
        """Stops every use of a dataset at once."""
        return self.call(self._stub.SuspendDataset, pb.SuspendDatasetRequest(name=name, reason=reason)).dataset

    def resume(self, name: str, reason: str) -> pb.Dataset:
        """Lifts the stop."""
        return self.call(self._stub.ResumeDataset, pb.ResumeDatasetRequest(name=name, reason=reason)).dataset

    def suspend_version(self, version: str, reason: str) -> list[str]:
        """Stops a version that reads the department's data; returns all who hold it back, as `role/organisation`."""
        stub = registry_pb2_grpc.RegistryServiceStub(self.channel)
        request = registry_pb2.SuspendVersionRequest(version=version, reason=reason)
        return list(self.call(stub.SuspendVersion, request).version.suspended_by)

    def resume_version(self, version: str, reason: str) -> list[str]:
        """Lifts the department's stop of a version; returns who still holds it back."""
        stub = registry_pb2_grpc.RegistryServiceStub(self.channel)
        request = registry_pb2.ResumeVersionRequest(version=version, reason=reason)
        return list(self.call(stub.ResumeVersion, request).version.suspended_by)

    @property
    def _stub(self) -> catalog_pb2_grpc.CatalogServiceStub:
        return catalog_pb2_grpc.CatalogServiceStub(self.channel)


def _parts(
    dataset: Dataset, subjects: list[str], rows: bytes, event_at: datetime, progress: Progress
) -> Iterator[pb.LoadDatasetRequest]:
    stamp = Timestamp()
    stamp.FromDatetime(event_at)
    header = pb.LoadHeader(dataset=dataset.name, layout_hash=layout_hash(dataset), event_at=stamp, rows=len(subjects))
    yield pb.LoadDatasetRequest(header=header)
    width = len(rows) // len(subjects) if subjects else 0
    step = max(1, CHUNK_BYTES_MAX // max(width, 1))
    for start in range(0, len(subjects), step):
        some = subjects[start : start + step]
        records = rows[start * width : (start + len(some)) * width]
        yield pb.LoadDatasetRequest(chunk=pb.LoadChunk(subjects=some, records=records))
        progress(start + len(some))
