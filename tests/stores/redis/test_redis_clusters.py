"""Redis with Sentinels and as a cluster: the contract, URLs and TLS."""

from __future__ import annotations

import copy
import functools
import traceback
import typing as t
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from uuid import uuid4

import pytest
import redis
import servers
from redis_cluster_support import saved
from redis_clusters import PASSWORD, SENTINEL_PASSWORD, RedisCluster, SentinelTrio

from flask_sessionstore import ConfigurationError, Record, SessionKey, StoreUnavailable
from flask_sessionstore.stores import ServerSideStore
from flask_sessionstore.stores.redis import RedisStore
from flask_sessionstore.testing import StoreContract

pytestmark = pytest.mark.redis
DAY = timedelta(days=1)
StartServer = t.Callable[..., servers.RedisServer]


# -- the contract ----------------------------------------------------------------------------------------------------


class _Contract(StoreContract):
    client: redis.RedisCluster | redis.Redis
    open: t.Callable[[], ServerSideStore]

    def peek(self, store: ServerSideStore, handle: str) -> bytes | None:
        return t.cast("bytes | None", self.client.get(store.prefix + handle))

    def poke(self, store: ServerSideStore, handle: str, data: bytes) -> None:
        self.client.set(store.prefix + handle, data)

    def reopen(self, store: ServerSideStore) -> t.Callable[[], ServerSideStore]:
        return self.open


@pytest.fixture(scope="module")
def cluster_client(cluster: RedisCluster) -> t.Iterator[redis.RedisCluster]:
    """One for all tests: to make it takes longer than most of them."""
    with redis.RedisCluster(host="127.0.0.1", port=cluster.servers[0].port) as client:
        yield client


@pytest.fixture(scope="module")
def cluster_store(cluster: RedisCluster) -> RedisStore:
    """To be copied, likewise."""
    return RedisStore.from_url(cluster.url)


class TestCluster(_Contract):
    @pytest.fixture
    def store(
        self, cluster: RedisCluster, cluster_client: redis.RedisCluster, cluster_store: RedisStore
    ) -> ServerSideStore:
        self.client, prefix = cluster_client, f"{uuid4()}:"
        self.open = functools.partial(RedisStore.from_url, cluster.url, prefix=prefix)
        store = copy.copy(cluster_store)
        store.prefix = prefix
        return store


class TestClusterOfAGivenClient(TestCluster):
    @pytest.fixture
    def store(self, cluster: RedisCluster, cluster_client: redis.RedisCluster) -> ServerSideStore:
        self.client = cluster_client
        prefix = f"{uuid4()}:"
        self.open = functools.partial(RedisStore.from_url, cluster.url, prefix=prefix)
        return RedisStore(self.client, prefix=prefix)


class TestSentinel(_Contract):
    @pytest.fixture
    def store(self, trio: SentinelTrio) -> ServerSideStore:
        self.client = trio.client()
        self.open = functools.partial(RedisStore.from_url, trio.url, prefix=f"{uuid4()}:", wait_replicas=2)
        return self.open()


class TestSentinelOfAGivenClient(TestSentinel):
    @pytest.fixture
    def store(self, trio: SentinelTrio) -> ServerSideStore:
        self.client = trio.client()
        prefix = f"{uuid4()}:"
        self.open = functools.partial(RedisStore.from_url, trio.url, prefix=prefix)
        return RedisStore(self.client, prefix=prefix, wait_replicas=2)


# -- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel:///mymaster", "lacks the Redis server"),
        ("redis+sentinel://h1,,h2/mymaster", "lacks the Redis server"),
        ("redis+sentinel://h1:26379", "lacks the name of the service"),
        ("redis+sentinel://h1:26379/", "lacks the name of the service"),
        ("redis+sentinel://h1:26379/mymaster/one", "number"),
        ("redis+sentinel://:secret@h1:port/mymaster", "percent-encode"),
        ("redis+sentinel://:secret@h1:26379/mymaster?nonsense=1", "nonsense"),
        ("redis+cluster://", "lacks the Redis server"),
        ("redis+cluster://h1,:7000", "lacks the Redis server"),
        ("redis+cluster://h1:7000/1", "only database 0"),
        ("redis+cluster://:sec/ret@h1:7000", "only database 0"),
        ("redis+cluster://:secret@h1:7000?nonsense=1", "nonsense"),
    ],
)
def test_a_url_that_cannot_work_is_refused_and_its_password_not_shown(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        RedisStore.from_url(url)
    assert "sec" not in str(caught.value)


def test_urls_of_valkey_and_defaults(trio: SentinelTrio, cluster: RedisCluster) -> None:
    """Any one node or Sentinel that answers will do."""
    for url in (trio.url, cluster.url):
        store = RedisStore.from_url(url.replace("redis+", "valkey+").replace("127.0.0.1", "127.0.0.1:1,127.0.0.1", 1))
        assert store.load(saved(store))


def test_a_wrong_password_is_unavailability_and_not_shown(trio: SentinelTrio) -> None:
    for password in (PASSWORD, SENTINEL_PASSWORD):
        store = RedisStore.from_url(trio.url.replace(password, "wrong-secret"))
        with pytest.raises(StoreUnavailable) as caught:
            store.load(SessionKey.generate())
        assert "secret" not in str(caught.value)


def test_passwords_are_not_in_the_causes_either() -> None:
    store = RedisStore.from_url("redis+sentinel://:secret@127.0.0.1:1/mymaster?sentinel_password=secret")
    with pytest.raises(StoreUnavailable) as caught:
        store.load(SessionKey.generate())
    assert "secret" not in "".join(traceback.format_exception(caught.value))


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One that signs itself, for 127.0.0.1: the paths of ``cert`` and ``key``."""
    pytest.importorskip("cryptography", reason="to make a certificate takes the package cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server of the tests")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}


def start_with_tls(start_redis: StartServer, program: str, certificate: dict[str, str]) -> tuple[int, str]:
    """The port for TLS, and the file that tells whom to trust. Skips the test if the program knows no TLS."""
    port = servers._free_port()
    try:
        start_redis(
            program, tls_port=str(port), tls_cert_file=certificate["cert"], tls_key_file=certificate["key"],
            tls_ca_cert_file=certificate["cert"], tls_auth_clients="no",
        )  # fmt: skip
    except RuntimeError as error:
        if "TLS" in str(error) or "'tls-port" in str(error):
            pytest.skip(f"{program} was built without TLS")
        raise
    return port, certificate["cert"]


@pytest.mark.parametrize("program", servers.PROGRAMS)
def test_tls_is_spoken_to_a_server_that_can_prove_itself(
    program: str, start_redis: StartServer, certificate: dict[str, str]
) -> None:
    port, trusted = start_with_tls(start_redis, program, certificate)
    for scheme in ("rediss", "valkeys"):
        store = RedisStore.from_url(f"{scheme}://127.0.0.1:{port}/0?ssl_ca_certs={trusted}")
        key = store.save(Record(state={"a": b"1"}, owner="ann"), DAY)
        assert [entry.handle for entry in store.entries("ann")] == [key.handle]
        store.delete(key)
        assert store.prune() == 1


@pytest.mark.parametrize("program", servers.PROGRAMS)
def test_tls_to_a_server_of_another_name_is_unavailability(
    program: str, start_redis: StartServer, certificate: dict[str, str]
) -> None:
    """With every version of redis-py, some of which do not compare names by themselves."""
    port, trusted = start_with_tls(start_redis, program, certificate)
    url = f"rediss://localhost:{port}/0?ssl_ca_certs={trusted}"  # the certificate is for 127.0.0.1
    with pytest.raises(StoreUnavailable):
        RedisStore.from_url(url).load(SessionKey.generate())
    assert RedisStore.from_url(f"{url}&ssl_check_hostname=false").load(SessionKey.generate()) is None


@pytest.mark.parametrize("program", servers.PROGRAMS)
def test_tls_to_a_server_that_cannot_is_unavailability(
    program: str, start_redis: StartServer, certificate: dict[str, str]
) -> None:
    """Nobody vouches for it, or it speaks no TLS; or it speaks nothing else."""
    port, trusted = start_with_tls(start_redis, program, certificate)
    plain = start_redis(program).port
    for url in (
        f"rediss://:secret@127.0.0.1:{port}",
        f"rediss://:secret@127.0.0.1:{plain}?ssl_ca_certs={trusted}&socket_timeout=0.2",
        f"redis://:secret@127.0.0.1:{port}?socket_timeout=0.2",
        f"rediss+cluster://:secret@127.0.0.1:{port}",
        f"rediss+sentinel://:secret@127.0.0.1:{port}/mymaster?sentinel_password=secret",
    ):
        with pytest.raises(StoreUnavailable) as caught:
            RedisStore.from_url(url).load(SessionKey.generate())
        assert "secret" not in "".join(traceback.format_exception(caught.value))
