"""All options of a run, validated once: flag, then environment, then file, then default.

Only names, types and rules of options live here; what Kafka's client properties mean is in client_properties.py,
whether an address, a bucket or a table exists is found out by those who open them.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from csv2kafka.client_properties import ENVIRONMENT, PropertyLayer, kafka_fields, read_file
from csv2kafka.config_file import ConfigFile, read_config
from csv2kafka.errors import UsageError
from csv2kafka.input_settings import STRICT, InputSettings, RecordSettings
from csv2kafka.kafka_settings import KafkaSettings
from csv2kafka.model import FENCED, Delivery, Quarantine

_PREFIX = "CSV2KAFKA_"
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
# Options whose name outside differs from the field's.
_NAMES = {
    "source": "SOURCE",
    "topic": "TOPIC",
    "checkpoint_url": "--checkpoint",
    "checkpoint_interval_rows": "--checkpoint-interval",
    "value_format": "--format",
    "schema_file": "--schema",
}
ModelT = TypeVar("ModelT", bound=BaseModel)


class StoreSettings(BaseModel):
    """What it takes to open a checkpoint store. `checkpoint_url` None means the default SQLite file."""

    model_config = STRICT

    checkpoint_url: str | None = Field(default=None, validation_alias="CSV2KAFKA_CHECKPOINT")
    region: str | None = None
    profile: str | None = None


class SchemaSettings(InputSettings):
    """What it takes to look into a file. `source` is s3://bucket/key or a path."""

    region: str | None = None
    profile: str | None = None


class RunSettings(RecordSettings, StoreSettings):
    """One run. `partition` None means the topic's only one."""

    model_config = STRICT

    topic: str = Field(validation_alias="KAFKA_TOPIC")
    kafka: KafkaSettings
    job_id: str | None = Field(default=None, validation_alias="JOB_ID")
    partition: int | None = Field(default=None, ge=0)
    compression: Literal["lz4", "zstd", "gzip", "snappy", "none"] = "lz4"
    checkpoint_interval_rows: int | None = Field(default=None, gt=0, validation_alias="CSV2KAFKA_CHECKPOINT_INTERVAL")
    max_bytes_per_s: int | None = Field(default=None, gt=0)
    create_topic: bool = True
    delivery: Delivery = FENCED
    accept_new_producer_id: bool = False
    log_format: Literal["auto", "text", "json"] = "auto"
    enable_metrics: bool = Field(default=False, validation_alias="ENABLE_METRICS")
    metrics_namespace: str = Field(default="CSVToKafka", min_length=1)
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    metrics_host: str = Field(default="127.0.0.1", min_length=1)

    @property
    def job(self) -> str:
        """The job's name, also where it was given none."""
        return self.job_id or default_job_id(self.source, self.topic, self.partition)

    def given_words(self) -> str:
        """The options that differ from their defaults, for a log; of the client's, those that name places."""
        fields = type(self).model_fields
        given = {name: value for name, value in self if name != "kafka" and value != fields[name].default}
        kafka = {"bootstrap": self.kafka.bootstrap, "security.protocol": self.kafka.security_protocol}
        return ", ".join(f"{name}={value}" for name, value in {**given, **kafka}.items())

    @field_validator("topic")
    @classmethod
    def _topic_is_legal(cls, topic: str) -> str:
        if not _is_topic(topic):
            raise ValueError(f"{topic!r} cannot be a topic: letters, digits, '.', '_', '-' only, at most 249")
        return topic

    @model_validator(mode="after")
    def _bad_rows_go_elsewhere(self) -> RunSettings:
        place = self.bad_rows_topic
        if place is not None and not _is_topic(place):
            raise ValueError(f"--bad-rows-to: {place!r} is neither a topic nor a path (./FILE)")
        if place == self.topic:
            raise ValueError("--bad-rows-to names the topic of the good rows")
        return self

    @property
    def bad_rows_place(self) -> str | None:
        """A topic or a file:// URI; None where a bad row ends the job."""
        if self.bad_rows == "fail":
            return None
        place = self.bad_rows_to or f"{self.topic}.bad"
        if place.startswith("file:"):
            return place
        return Path(place).absolute().as_uri() if "/" in place else place

    @property
    def bad_rows_topic(self) -> str | None:
        """None where they go to a file, and where the first one ends the job."""
        place = self.bad_rows_place
        return None if place is None or Quarantine(place).is_file else place

    @field_validator("job_id")
    @classmethod
    def _job_id_is_a_name(cls, job_id: str | None) -> str | None:
        if job_id is not None and not (0 < len(job_id) <= 1000 and job_id.isprintable()):
            raise ValueError("a job's name has 1 to 1,000 printable characters")
        return job_id


def default_job_id(source: str, topic_name: str, partition: int | None) -> str:
    """The name of a job that was given none: readable, and the same for the same source, topic and partition."""
    if "://" not in source:
        source = os.path.abspath(source)
    digest = hashlib.sha256("\0".join((source, topic_name, str(partition or 0))).encode()).hexdigest()[:8]
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", source.rstrip("/").rsplit("/", 1)[-1])[:60]
    return f"{stem}-{topic_name}-{partition or 0}-{digest}"


def _is_topic(name: str) -> bool:
    return _TOPIC.fullmatch(name) is not None and name not in (".", "..")


def load_run(
    flags: Mapping[str, Any],
    *,
    bootstrap: str | None = None,
    properties: Mapping[str, str] | None = None,
    command_config: Path | None = None,
    config: Path | None = None,
) -> RunSettings:
    """Put one run's options together.

    flags: fields of RunSettings that were given on the command line (None: not given).
    bootstrap, properties, command_config, config: -b, -X, --command-config and --config.
    Raises UsageError, naming the place where the wrong value was written.
    """
    flags = {name: value for name, value in flags.items() if value is not None}
    file = _read_file(config)
    fields = _client_fields(flags.get("compression"), bootstrap, properties, command_config, file)
    compression = {"compression": fields.pop("compression")} if "compression" in fields else {}
    _refuse_missing(flags, file.options, has_bootstrap="bootstrap" in fields)
    settings = _resolve(RunSettings, {**flags, **compression, "kafka": _kafka(fields)}, file.options)
    return settings.model_copy(update={"kafka": _in_aws(settings.kafka, settings)})


def load_kafka(
    store: StoreSettings,
    *,
    bootstrap: str | None = None,
    properties: Mapping[str, str] | None = None,
    command_config: Path | None = None,
    config: Path | None = None,
) -> KafkaSettings:
    """Only how to reach the cluster, as `load_run` finds it. Raises UsageError.

    store: its region and profile are those of MSK as well, where nothing says otherwise.
    """
    fields = _client_fields(None, bootstrap, properties, command_config, _read_file(config))
    fields.pop("compression", None)
    if "bootstrap" not in fields:
        raise UsageError("missing: -b HOST:PORT", hint="or set KAFKA_BOOTSTRAP_SERVERS")
    return _in_aws(_kafka(fields), store)


def _in_aws(kafka: KafkaSettings, store: StoreSettings) -> KafkaSettings:
    if kafka.msk_iam is None:
        return kafka
    msk_iam = kafka.msk_iam.model_copy(
        update={"region": store.region, "profile": kafka.msk_iam.profile or store.profile}
    )
    return kafka.model_copy(update={"msk_iam": msk_iam})


def _client_fields(
    compression: str | None,
    bootstrap: str | None,
    properties: Mapping[str, str] | None,
    command_config: Path | None,
    file: ConfigFile,
) -> dict[str, Any]:
    """Fields of KafkaSettings, and `compression`, from everywhere that a client property may be written."""
    command_config = command_config or _path(os.environ.get(_PREFIX + "COMMAND_CONFIG") or file.command_config)
    _refuse_misspelt_variables()
    return kafka_fields(
        (
            (
                _layer({"bootstrap.servers": bootstrap}, "-b"),
                _layer({"compression.type": compression}, "--compression"),
                PropertyLayer(properties or {}, lambda name: f"-X {name}"),
            ),
            (
                _layer({"compression.type": os.environ.get(_PREFIX + "COMPRESSION")}, _PREFIX + "COMPRESSION"),
                _environment_properties(),
            ),
            (read_file(command_config),) if command_config else (),
            (
                _layer({"bootstrap.servers": file.bootstrap}, "bootstrap-server in the file"),
                _layer({"compression.type": file.options.get("compression")}, "compression in the file"),
                PropertyLayer(file.client, lambda name: f"{name} in the file's [client]"),
            ),
        )
    )


def _kafka(fields: Mapping[str, Any]) -> KafkaSettings:
    try:
        return KafkaSettings(**fields)
    except ValidationError as error:
        raise UsageError(_reason(error), hint="change one of the client properties") from None


def checked_run(kafka: Mapping[str, Any], **options: Any) -> RunSettings:
    """A run's options from a program instead of a command line. Raises UsageError like `load_run`."""
    try:
        return RunSettings(kafka=KafkaSettings(**kafka), **options)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise UsageError(f"{field}: {_reason(error)}", hint="change this argument") from None


def load_schema(flags: Mapping[str, Any], *, config: Path | None = None) -> SchemaSettings:
    """Put together how a file is to be read, as `load_run` does. Raises UsageError."""
    flags = {name: value for name, value in flags.items() if value is not None}
    options = _read_file(config).options
    if "source" not in flags and not any(map(os.environ.get, ("S3_KEY", "S3_BUCKET", _PREFIX + "SOURCE"))):
        raise UsageError("missing: SOURCE", hint="csv2kafka schema SOURCE, or set S3_BUCKET and S3_KEY")
    return _resolve(SchemaSettings, flags, {k: v for k, v in options.items() if k in SchemaSettings.model_fields})


def load_store(flags: Mapping[str, Any], *, config: Path | None = None) -> StoreSettings:
    """Put together what names a checkpoint store, as `load_run` does. Raises UsageError."""
    flags = {name: value for name, value in flags.items() if value is not None}
    options = _read_file(config).options
    return _resolve(StoreSettings, flags, {k: v for k, v in options.items() if k in StoreSettings.model_fields})


def _resolve(model: type[ModelT], flags: Mapping[str, Any], file: Mapping[str, Any]) -> ModelT:
    """Let pydantic-settings put flag over environment over file, and validate the outcome."""

    class Layered(model, BaseSettings):  # type: ignore[valid-type, misc]  # one class for each kind of settings
        model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            pairs = dict(_environment_pairs(model.model_fields.keys() - flags.keys()))
            return (
                init_settings,
                InitSettingsSource(settings_cls, init_kwargs=pairs),
                env_settings,
                InitSettingsSource(settings_cls, init_kwargs=dict(file)),
            )

    try:
        return model.model_validate(dict(Layered(**flags)))
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        origin = f"{_origin(str(place[0]), flags)}: " if place else ""  # two options at odds name themselves
        raise UsageError(f"{origin}{_reason(error)}", hint="see csv2kafka run --help") from None
    except SettingsError as error:  # an environment variable that should be JSON; its value is not repeated
        raise UsageError(str(error), hint="unset it") from None


def _environment_pairs(wanted: Collection[str]) -> Iterator[tuple[str, str]]:
    """The plan's S3_BUCKET and S3_KEY as a source, and its DYNAMODB_TABLE as a checkpoint URL."""
    bucket, key, table = (os.environ.get(name, "") for name in ("S3_BUCKET", "S3_KEY", "DYNAMODB_TABLE"))
    if "source" in wanted and (bucket or key):
        if not (bucket and key):
            given, missing = ("S3_BUCKET", "S3_KEY") if bucket else ("S3_KEY", "S3_BUCKET")
            raise UsageError(f"{given} is set, but {missing} is not", hint="set both, or give SOURCE")
        yield "source", _agreed(f"s3://{bucket}/{key}", "S3_BUCKET and S3_KEY", _PREFIX + "SOURCE")
    if "checkpoint_url" in wanted and table:
        yield "checkpoint_url", _agreed(f"dynamodb://{table}", "DYNAMODB_TABLE", _PREFIX + "CHECKPOINT")


def _agreed(value: str, origin: str, variable: str) -> str:
    if os.environ.get(variable) not in (None, "", value):
        raise UsageError(f"{origin} and {variable} contradict each other", hint="unset one of them")
    return value


def _environment_properties() -> PropertyLayer:
    values = {name: os.environ[variable] for variable, name in ENVIRONMENT.items() if os.environ.get(variable)}
    variables = {name: variable for variable, name in ENVIRONMENT.items()}
    return PropertyLayer(values, lambda name: variables[name])


def _layer(values: Mapping[str, str | None], origin: str) -> PropertyLayer:
    return PropertyLayer({name: value for name, value in values.items() if value}, lambda _: origin)


def _read_file(path: Path | None) -> ConfigFile:
    path = path or _path(os.environ.get(_PREFIX + "CONFIG"))
    if path is None:
        return ConfigFile()
    return read_config(path, {_file_key(field): field for field in _option_fields()})


def _option_fields() -> list[str]:
    return [field for field in RunSettings.model_fields if field != "kafka"]


def _refuse_misspelt_variables() -> None:
    """Only near misses: a CSV2KAFKA_ variable with quite another name may belong to somebody else."""
    known = {_variable(field) for field in _option_fields()} | {_PREFIX + "CONFIG", _PREFIX + "COMMAND_CONFIG"}
    known |= {_PREFIX + field.upper() for field in _option_fields()}
    for name in os.environ:
        if name.startswith(_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
            if near:
                raise UsageError(f"{name} in the environment is no option", hint=f"did you mean {near[0]}?")


def _refuse_missing(flags: Mapping[str, Any], file: Mapping[str, Any], *, has_bootstrap: bool) -> None:
    """All that is missing at once, instead of one at a time."""
    environment = {"source": ("S3_KEY", "S3_BUCKET", _PREFIX + "SOURCE"), "topic": ("KAFKA_TOPIC", _PREFIX + "TOPIC")}
    missing = [
        _NAMES[field]
        for field, variables in environment.items()
        if field not in flags and field not in file and not any(map(os.environ.get, variables))
    ]
    missing += [] if has_bootstrap else ["-b HOST:PORT"]
    if missing:
        raise UsageError(
            f"missing: {', '.join(missing)}",
            hint="csv2kafka run SOURCE TOPIC -b HOST:PORT, or set S3_BUCKET and S3_KEY, KAFKA_TOPIC, "
            "KAFKA_BOOTSTRAP_SERVERS",
        )


def _long_name(field: str) -> str:
    return _NAMES.get(field, "--" + field.replace("_", "-"))


def _file_key(field: str) -> str:
    return _long_name(field).strip("-").lower()


def _variable(field: str) -> str:
    alias = RunSettings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else _PREFIX + field.upper()


def _origin(field: str, flags: Mapping[str, Any]) -> str:
    """Where the user wrote the value of `field`."""
    if field in flags:
        return _long_name(field)
    if os.environ.get(_variable(field)):
        return _variable(field)
    return f"{_file_key(field)} in the file"


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return str(first["msg"]).removeprefix("Value error, ").removeprefix("Input ")


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
