"""Options: where they may come from, who wins, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from csv2kafka.errors import UsageError
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.settings import RunSettings, load_run, load_store
from tests.support.environment import clear_options

NEEDED: dict[str, Any] = {"source": "data.csv", "topic": "orders"}


@pytest.fixture(autouse=True)
def _no_options_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_options(monkeypatch)


def load(flags: dict[str, Any] | None = None, **more: Any) -> RunSettings:
    return load_run({**NEEDED, **(flags or {})}, **{"bootstrap": "b:1", **more})


def refusal(flags: dict[str, Any] | None = None, **more: Any) -> str:
    """The refusal's message and hint in one text."""
    with pytest.raises(UsageError) as caught:
        load(flags, **more)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return f"{caught.value.message} | {caught.value.hint}"


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "options.toml"
    path.write_text(text)
    return path


class TestPrecedence:
    def test_the_defaults(self) -> None:
        assert load() == RunSettings(
            source="data.csv",
            topic="orders",
            kafka=KafkaSettings(bootstrap="b:1"),
            job_id=None,
            checkpoint_url=None,
            partition=None,
            compression="lz4",
            checkpoint_interval_rows=None,
            create_topic=True,
            accept_new_producer_id=False,
            delimiter=",",
            region=None,
            profile=None,
            enable_metrics=False,
            metrics_namespace="CSVToKafka",
        )

    @pytest.mark.parametrize(
        ("field", "flag", "variable", "in_file", "values"),
        [
            ("topic", "topic", "KAFKA_TOPIC", "topic", ("f", "e", "t", None)),
            ("job_id", "job_id", "JOB_ID", "job-id", ("f", "e", "t", None)),
            ("checkpoint_url", "checkpoint_url", "CSV2KAFKA_CHECKPOINT", "checkpoint", ("f", "e", "t", None)),
            ("partition", "partition", "CSV2KAFKA_PARTITION", "partition", (1, 2, 3, None)),
            ("compression", "compression", "CSV2KAFKA_COMPRESSION", "compression", ("zstd", "gzip", "none", "lz4")),
            (
                "checkpoint_interval_rows",
                "checkpoint_interval_rows",
                "CSV2KAFKA_CHECKPOINT_INTERVAL",
                "checkpoint-interval",
                (1, 2, 3, None),
            ),
            ("create_topic", "create_topic", "CSV2KAFKA_CREATE_TOPIC", "create-topic", (False, False, False, True)),
            ("delimiter", "delimiter", "CSV2KAFKA_DELIMITER", "delimiter", (";", "|", "\t", ",")),
            ("encoding", "encoding", "CSV2KAFKA_ENCODING", "encoding", ("latin-1", "utf-16", "cp1252", None)),
            ("decompress", "decompress", "CSV2KAFKA_DECOMPRESS", "decompress", ("gzip", "none", "lz4", "auto")),
            ("region", "region", "CSV2KAFKA_REGION", "region", ("f", "e", "t", None)),
            ("enable_metrics", "enable_metrics", "ENABLE_METRICS", "enable-metrics", (True, True, True, False)),
            (
                "metrics_namespace",
                "metrics_namespace",
                "CSV2KAFKA_METRICS_NAMESPACE",
                "metrics-namespace",
                ("f", "e", "t", "CSVToKafka"),
            ),
            ("metrics_port", "metrics_port", "CSV2KAFKA_METRICS_PORT", "metrics-port", (0, 9400, 65535, None)),
            ("metrics_host", "metrics_host", "CSV2KAFKA_METRICS_HOST", "metrics-host", ("::", "e", "t", "127.0.0.1")),
        ],
    )
    def test_flag_then_environment_then_file_then_default(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        field: str,
        flag: str,
        variable: str,
        in_file: str,
        values: tuple[Any, Any, Any, Any],
    ) -> None:
        by_flag, by_environment, by_file, by_default = values
        needed = {name: value for name, value in {**NEEDED, "topic": "t0"}.items() if name != flag}
        written = repr(by_file).lower() if isinstance(by_file, bool | int) else f'"""{by_file}"""'
        config = toml(tmp_path, f"{in_file} = {written}")
        monkeypatch.setenv(variable, str(by_environment))

        def found(flags: dict[str, Any], config: Path | None) -> Any:
            return getattr(load_run({**needed, **flags}, bootstrap="b:1", config=config), field)

        assert found({flag: by_flag}, config) == by_flag
        assert found({flag: None}, config) == by_environment
        monkeypatch.setenv(variable, "")  # as containers unset things
        assert found({}, config) == by_file
        if field != "topic":
            assert found({}, None) == by_default

    def test_the_plans_environment_alone_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {
            "S3_BUCKET": "bucket",
            "S3_KEY": "in/data.csv",
            "KAFKA_BOOTSTRAP_SERVERS": "b1:9092, b2:9092",
            "KAFKA_TOPIC": "orders",
            "DYNAMODB_TABLE": "checkpoints",
            "JOB_ID": "nightly",
            "ENABLE_METRICS": "true",
        }.items():
            monkeypatch.setenv(name, value)
        settings = load_run({})
        assert settings.source == "s3://bucket/in/data.csv"
        assert settings.kafka.bootstrap == "b1:9092,b2:9092"
        assert (settings.topic, settings.job_id, settings.enable_metrics) == ("orders", "nightly", True)
        assert settings.checkpoint_url == "dynamodb://checkpoints"
        assert load_store({}).checkpoint_url == "dynamodb://checkpoints"

    def test_flags_beat_the_plans_pairs_even_half_ones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("S3_BUCKET", "bucket")
        monkeypatch.setenv("DYNAMODB_TABLE", "checkpoints")
        settings = load({"checkpoint_url": "sqlite:///x"})
        assert (settings.source, settings.checkpoint_url) == ("data.csv", "sqlite:///x")

    def test_the_environment_names_the_files(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        properties = tmp_path / "client.properties"
        properties.write_text("client.id=from-properties\n")
        monkeypatch.setenv("CSV2KAFKA_COMMAND_CONFIG", str(properties))
        monkeypatch.setenv("CSV2KAFKA_CONFIG", str(toml(tmp_path, 'region = "eu-west-1"\nbootstrap-server = "b:2"')))
        settings = load(bootstrap=None)
        assert (settings.kafka.client_id, settings.region, settings.kafka.bootstrap) == (
            "from-properties",
            "eu-west-1",
            "b:2",
        )

    def test_client_properties_from_four_places(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        properties = tmp_path / "client.properties"
        properties.write_text("request.timeout.ms=3000\nclient.id : file\ndelivery.timeout.ms=9000\nacks=all\n")
        config = toml(tmp_path, '[client]\nclient.id = "toml"\nrequest.timeout.ms = 4000\ncompression.type = "gzip"')
        monkeypatch.setenv("KAFKA_CLIENT_ID", "environment")
        monkeypatch.setenv("KAFKA_REQUEST_TIMEOUT_MS", "2000")
        settings = load(properties={"request.timeout.ms": "1000"}, command_config=properties, config=config)
        assert settings.kafka.request_timeout_ms == 1000
        assert settings.kafka.client_id == "environment"
        assert settings.kafka.delivery_timeout_s == 9.0
        assert settings.compression == "gzip"

    def test_reset_needs_the_stores_options_only(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("S3_BUCKET", "half-a-source")
        config = toml(tmp_path, 'topic = "orders"\npartition = 3\ncheckpoint = "sqlite:///x"')
        assert load_store({"profile": "ops"}, config=config).model_dump() == {
            "checkpoint_url": "sqlite:///x",
            "region": None,
            "profile": "ops",
        }


class TestRefusals:
    def test_everything_missing_is_named_at_once(self) -> None:
        with pytest.raises(UsageError, match=re.escape("missing: SOURCE, TOPIC, -b HOST:PORT")) as caught:
            load_run({})
        assert "KAFKA_BOOTSTRAP_SERVERS" in caught.value.hint

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ({"topic": "a b"}, "TOPIC: 'a b' cannot be a topic"),
            ({"topic": ".."}, "TOPIC: "),
            ({"topic": "x" * 250}, "TOPIC: "),
            ({"encoding": "ebcdic"}, "--encoding: 'ebcdic' is not among utf-8, utf8, utf-8-sig"),
            ({"encoding": ""}, "--encoding: "),
            ({"decompress": "zip"}, "--decompress: should be 'auto', 'none', 'gzip', 'zstd', 'bz2', 'xz' or 'lz4'"),
            ({"delimiter": ";;"}, "--delimiter: one ASCII character"),
            ({"delimiter": '"'}, "--delimiter and --quote are both '\"'"),
            ({"quote": "\n"}, "--quote: one ASCII character"),
            ({"escape": '"'}, "--escape and --quote are both '\"': a doubled quote within quotes needs no --escape"),
            ({"escape": ","}, "--escape and --delimiter are both ','"),
            ({"skip_lines": -1}, "--skip-lines: should be greater than or equal to 0"),
            ({"value_format": "xml"}, "--format: should be 'json', 'csv' or 'raw'"),
            ({"headers": "all"}, "--headers: should be 'none' or 'provenance'"),
            ({"header": ("a",)}, "--header: NAME=VALUE is needed"),
            ({"header": ("=a",)}, "--header: NAME=VALUE is needed"),
            ({"key": ("a", "a")}, "--key: a column can be in the key only once"),
            ({"delimiter": "é"}, "--delimiter: "),
            ({"partition": -1}, "--partition: should be greater than or equal to 0"),
            ({"checkpoint_interval_rows": 0}, "--checkpoint-interval: should be greater than 0"),
            ({"job_id": "a\nb"}, "--job-id: a job's name"),
            ({"compression": "lzo"}, "--compression: 'lzo' is not supported | one of lz4, zstd"),
        ],
    )
    def test_a_wrong_flag_is_named(self, flags: dict[str, Any], message: str) -> None:
        assert message in refusal(flags)

    def test_a_wrong_variable_and_a_wrong_line_are_named(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert "partition in the file: should be a valid integer" in refusal(config=toml(tmp_path, 'partition = "x"'))
        monkeypatch.setenv("CSV2KAFKA_PARTITION", "x")
        assert "CSV2KAFKA_PARTITION: should be a valid integer" in refusal()

    def test_a_tab_may_be_typed(self) -> None:
        assert load({"delimiter": "\\t"}).delimiter == "\t"

    @pytest.mark.parametrize("bootstrap", ["host", "host:", "host:0", "host:70000", "a:1,b", "SSL://h:1", ",", "h :1"])
    def test_an_address_needs_host_and_port(self, bootstrap: str) -> None:
        assert "-b" in refusal(bootstrap=bootstrap)

    def test_addresses(self) -> None:
        assert load(bootstrap="[::1]:9092, b-1.x.kafka:9094,").kafka.bootstrap == "[::1]:9092,b-1.x.kafka:9094"

    def test_half_of_s3_and_two_sources(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("S3_KEY", "k")
        assert "S3_KEY is set, but S3_BUCKET is not" in refusal({"source": None})
        monkeypatch.setenv("S3_BUCKET", "b")
        monkeypatch.setenv("CSV2KAFKA_SOURCE", "other.csv")
        assert "S3_BUCKET and S3_KEY and CSV2KAFKA_SOURCE contradict" in refusal({"source": None})

    def test_two_checkpoints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DYNAMODB_TABLE", "t")
        monkeypatch.setenv("CSV2KAFKA_CHECKPOINT", "dynamodb://t")
        assert load().checkpoint_url == "dynamodb://t"
        monkeypatch.setenv("CSV2KAFKA_CHECKPOINT", "sqlite:///x")
        assert "contradict" in refusal()

    def test_one_level_may_not_contradict_itself(self) -> None:
        assert "-b and -X bootstrap.servers contradict" in refusal(properties={"bootstrap.servers": "other:1"})
        clash = refusal({"compression": "lz4"}, properties={"compression.type": "zstd"})
        assert "--compression and -X compression.type contradict" in clash

    def test_misspelt_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CSV2KAFKA_SOMETHING_QUITE_DIFFERENT", "1")
        load()
        monkeypatch.setenv("CSV2KAFKA_CREATE_TOPC", "false")
        assert "did you mean CSV2KAFKA_CREATE_TOPIC?" in refusal()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("partiton = 1", "did you mean partition?"),
            ("zzz = 1", "known are: "),
            ("kafka = 1", "there is no option 'kafka'"),
            ("partition = = 1", "cannot be read as TOML"),
            ("bootstrap-server = 1", "bootstrap-server is no text"),
            ("client = 1", "client is no table"),
            ('[client]\nacks = "1"', "acks in the file's [client]=1 is refused"),
        ],
    )
    def test_a_wrong_file(self, tmp_path: Path, text: str, message: str) -> None:
        assert message in refusal(config=toml(tmp_path, text))

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        binary = tmp_path / "binary"
        binary.write_bytes(b"\xff\xfe\\u12")
        assert "No such file" in refusal(config=tmp_path / "none")
        assert "not UTF-8" in refusal(config=binary)
        assert "No such file" in refusal(command_config=tmp_path / "none")
        binary.write_bytes(b"key=\\u12zz")
        assert "is no properties file" in refusal(command_config=binary)

    def test_settings_are_strict_and_frozen(self) -> None:
        with pytest.raises(ValidationError):
            RunSettings(source="s", topic="t", kafka=KafkaSettings(bootstrap="b:1"), colour="red")  # type: ignore[call-arg]
        with pytest.raises(ValidationError):
            load().topic = "other"
