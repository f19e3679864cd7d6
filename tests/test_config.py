"""Settings: files, environment and defaults, and what follows from the keys."""

import json
from pathlib import Path
from typing import ClassVar

import jsonschema
import msgspec
import pytest
import yaml

from aiflow_core import config
from aiflow_core.app import App
from aiflow_core.config import (
    ClientSettings,
    Driver,
    Origin,
    ProjectSettings,
    ServerSettings,
    Settings,
)
from aiflow_core.database import open_engine
from aiflow_core.errors import ConfigError
from aiflow_core.model.timing import retention_ms

SCHEMAS = Path(__file__).parent.parent / "docs" / "reference" / "schemas"


class Garden(Settings, frozen=True, kw_only=True):
    """Settings of a plugin with a file of its own."""

    plants: int = 3
    path: str = "${GARDEN_HOME}/beds"


def load(path: Path) -> Garden:
    return config.load(path, Garden, section="GARDEN", variables={"GARDEN_HOME": "/garden"})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_file_everything_has_its_default(home: Path) -> None:
    server, client = config.server_settings(), config.client_settings()

    assert (server.rpc_host, server.rpc_port) == ("127.0.0.1", 50051)
    assert server.log_dir == f"{home}/logs"
    assert server.metadata_backend_uri == f"sqlite:///{home}/aiflow.db"
    assert client.server_address == "localhost:50051"
    assert client.blob_manager.config == {"root_directory": f"{home}/blob"}


def test_the_files_that_config_init_writes_say_the_defaults(home: Path) -> None:
    server, client = config.server_settings(), config.client_settings()

    (home / "aiflow_server.yaml").write_text(config.default_file(ServerSettings, "The server"))
    (home / "aiflow_client.yaml").write_text(config.default_file(ClientSettings, "Clients"))

    written = config.server_settings()
    assert written.k8s_executor_config["in_cluster"] is False
    assert msgspec.structs.replace(written, k8s_executor_config={}) == server
    assert config.client_settings() == client


def test_the_file_of_the_manual_is_understood(home: Path) -> None:
    (home / "aiflow_server.yaml").write_text(
        "log_dir : ${AIFLOW_HOME}/logs\n"
        "internal_rpc_port: 50000\n"
        "rest_port: 8000\n"
        "metadata_backend_uri: sqlite:///{{AIFLOW_HOME}}/aiflow.db\n"
        "history_retention: 30d\n"
        "state_backend_uri: sqlite:///{{AIFLOW_HOME}}/aiflow.db\n"
        "sql_alchemy_pool_enabled: True\n"
        "task_heartbeat_timeout: 60\n"
        "k8s_executor_config:\n  pod_template_file:\n  in_cluster: False\n"
    )

    settings = config.server_settings()

    assert settings.metadata_backend_uri == f"sqlite:///{home}/aiflow.db"
    assert settings.k8s_executor_config == {"pod_template_file": None, "in_cluster": False}


def test_the_how_to_on_mysql_names_the_database_in_its_own_way(home: Path) -> None:
    (home / "aiflow_server.yaml").write_text("db_uri: mysql://me@db/aiflow\ndb_type: MYSQL\n")

    assert config.server_settings().metadata_backend_uri == "mysql://me@db/aiflow"


def test_a_blob_manager_may_be_named_as_type_or_as_class(home: Path) -> None:
    (home / "aiflow_client.yaml").write_text(
        "blob_manager:\n  blob_manager_class: my.Blobs\n  blob_manager_config: {bucket: b}\n"
    )
    (home / "project.yaml").write_text("blob: {type: s3, config: {bucket: c}}\n")

    assert config.client_settings().blob_manager.type == "my.Blobs"
    assert config.client_settings().blob_manager.config == {"bucket": "b"}
    blob = config.project_settings().blob
    assert blob is not None
    assert (blob.type, blob.config) == ("s3", {"bucket": "c"})


def test_the_project_file_of_the_working_directory_comes_before_that_of_the_home(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = home / "project"
    project.mkdir()
    (home / "project.yaml").write_text("scheduler: {type: far}\n")
    (project / "project.yaml").write_text("scheduler: {type: near}\n")

    assert config.project_settings().scheduler == config.Driver(type="far")
    monkeypatch.chdir(project)
    assert config.project_settings().scheduler == config.Driver(type="near")


@pytest.mark.parametrize("form", ["${GARDEN_HOME}", "{{GARDEN_HOME}}", "'{GARDEN_HOME}'"])
def test_a_variable_may_be_written_in_each_form(tmp_path: Path, form: str) -> None:
    file = tmp_path / "garden.yaml"
    quote = "'" if form.startswith("'") else ""
    file.write_text(f"path: a:{form.strip(quote)}/x\n")

    assert load(file).path == "a:/garden/x"


def test_environment_variables_and_the_users_home_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "somewhere")
    monkeypatch.setenv("HOME", "/home/me")
    file = tmp_path / "garden.yaml"

    for written, meant in {
        "$WHERE/x": "somewhere/x",
        "${WHERE}/x": "somewhere/x",
        "${NOWHERE_AT_ALL}/x": "${NOWHERE_AT_ALL}/x",
        "~/x": "/home/me/x",
        "sqlite:///~/x.db": "sqlite:////home/me/x.db",
        "x~/y": "x~/y",
    }.items():
        file.write_text(f"path: {written}\n")
        assert load(file).path == meant


def test_an_empty_value_means_the_default(tmp_path: Path) -> None:
    file = tmp_path / "garden.yaml"
    file.write_text("plants:\npath:\n")

    assert load(file) == Garden(path="/garden/beds")


def test_the_environment_overrides_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "aiflow_server.yaml").write_text("rpc_port: 1\n")
    monkeypatch.setenv("AIFLOW__SERVER__RPC_PORT", "50061")
    monkeypatch.setenv("AIFLOW__SERVER__LOG_DIR", "{AIFLOW_HOME}/elsewhere")
    monkeypatch.setenv("AIFLOW__CLIENT__SERVER_ADDRESS", "far:50061")
    monkeypatch.setenv("AIFLOW__SERVER__K8S_EXECUTOR_CONFIG__IN_CLUSTER", "true")

    settings = config.server_settings()

    assert settings.rpc_port == 50061
    assert settings.log_dir == f"{home}/elsewhere"
    assert settings.k8s_executor_config == {"in_cluster": True}
    assert config.client_settings().server_address == "far:50061"


class TestAnError:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("plant: 4\n", ["garden.yaml", "'plant'", "Did you mean 'plants'?"]),
            ("plants: many\n", ["garden.yaml", "plants", "int"]),
            ("- 1\n", ["garden.yaml", "key: value"]),
            ("path: {GARDEN_HOME}/x\n", ["garden.yaml", "quotes"]),
        ],
    )
    def test_names_the_file_and_the_key(self, tmp_path: Path, text: str, words: list[str]) -> None:
        file = tmp_path / "garden.yaml"
        file.write_text(text)

        with pytest.raises(ConfigError) as raised:
            load(file)

        assert all(word in str(raised.value) for word in words)

    def test_names_the_environment_variable(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIFLOW__SERVER__RPC_PORT", "many")
        with pytest.raises(ConfigError, match=r"^AIFLOW__SERVER__RPC_PORT: rpc_port: "):
            config.server_settings()

        monkeypatch.delenv("AIFLOW__SERVER__RPC_PORT")
        monkeypatch.setenv("AIFLOW__SERVER__RPC_PROT", "1")
        with pytest.raises(ConfigError, match="Did you mean 'rpc_port'"):
            config.server_settings()

    def test_names_a_key_inside_another(self, home: Path) -> None:
        (home / "aiflow_client.yaml").write_text("blob_manager: {typ: local}\n")
        with pytest.raises(ConfigError, match="Did you mean 'type'"):
            config.client_settings()

        (home / "aiflow_client.yaml").write_text("blob_manager: {type: 3}\n")
        with pytest.raises(ConfigError, match=r"blob_manager\.type"):
            config.client_settings()


class TestWhereAValueComesFrom:
    def test_is_a_line_of_the_file_the_environment_or_nowhere(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (home / "aiflow_server.yaml").write_text("# mine\nrpc_port: 1\ndb_uri: sqlite:///x\n")
        monkeypatch.setenv("AIFLOW__SERVER__LOG_DIR", "/logs")
        file = str(home / "aiflow_server.yaml")

        loaded = config.read_server()

        assert loaded.origins == {
            "rpc_port": Origin(file, 2),
            "metadata_backend_uri": Origin(file, 3),
            "log_dir": Origin("AIFLOW__SERVER__LOG_DIR"),
        }
        assert str(loaded.origin("rpc_port")) == f"{file}:2"
        assert loaded.origin("rpc_host") is None

    def test_of_a_key_inside_another_is_known_too(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = home / "aiflow_client.yaml"
        file.write_text("blob_manager:\n  blob_manager_class: s3\n")
        monkeypatch.setenv("AIFLOW__CLIENT__BLOB_MANAGER__BLOB_MANAGER_CONFIG__BUCKET", "b")

        loaded = config.read_client()

        assert loaded.settings.blob_manager == Driver(type="s3", config={"bucket": "b"})
        assert loaded.origin("blob_manager.type") == Origin(str(file), 2)
        assert loaded.origin("blob_manager") is not None

    def test_stands_in_front_of_an_error(self, tmp_path: Path) -> None:
        file = tmp_path / "garden.yaml"
        file.write_text("path: x\n\nplants: many\n")

        with pytest.raises(ConfigError, match=r"garden\.yaml:3: plants: "):
            load(file)


class TestASecret:
    @pytest.fixture
    def database(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("SECRET_WORD", "hunter2")
        (home / "password").write_text("hun$HOME{AIFLOW_HOME}~ter2\n")
        return home / "aiflow_server.yaml"

    def test_is_a_variable_of_the_environment(self, database: Path) -> None:
        database.write_text("metadata_backend_uri: mysql://me:${env:SECRET_WORD}@db/x\n")

        assert config.server_settings().metadata_backend_uri == "mysql://me:hunter2@db/x"

    def test_is_a_file_whose_content_is_taken_as_it_is(self, database: Path) -> None:
        database.write_text("k8s_executor_config: {key: '${file:${AIFLOW_HOME}/password}'}\n")

        settings = config.server_settings()

        assert settings.k8s_executor_config == {"key": "hun$HOME{AIFLOW_HOME}~ter2"}

    def test_may_be_a_number(self, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PORT", "50061")
        database.write_text("rpc_port: ${env:PORT}\n")

        assert config.server_settings().rpc_port == 50061

    @pytest.mark.parametrize(
        "written",
        [
            "metadata_backend_uri: mysql://me:${env:SECRET_WORD}@db/x",
            "metadata_backend_uri: mysql://me:hunter2@db/x",
            "k8s_executor_config: {api_token: hunter2, inner: {password: hunter2}}",
            "k8s_executor_config: {access_key_secret: hunter2}",
            "k8s_executor_config: {anything: '${env:SECRET_WORD}'}",
        ],
    )
    def test_is_never_shown(self, database: Path, written: str) -> None:
        database.write_text(f"{written}\n")

        shown = config.read_server().shown

        assert "hunter2" not in str(shown)
        assert "hunter2" in str(config.server_settings())

    def test_that_is_no_database_is_not_shown_by_the_error(self, database: Path) -> None:
        database.write_text("metadata_backend_uri: ${env:SECRET_WORD}\n")
        uri = config.server_settings().metadata_backend_uri

        with pytest.raises(ConfigError) as raised:
            open_engine(uri)

        assert "hunter2" not in str(raised.value)

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("${env:NOT_SET_AT_ALL}", "the environment variable NOT_SET_AT_ALL is not set"),
            ("${file:/not/there}", "the file /not/there cannot be read"),
        ],
    )
    def test_that_is_not_there_is_an_error(self, database: Path, written: str, said: str) -> None:
        database.write_text(f"\nlog_dir: {written}\n")

        with pytest.raises(ConfigError, match=rf"aiflow_server\.yaml:2: log_dir: {said}"):
            config.server_settings()


class TestTheSchema:
    FILES: ClassVar = {"aiflow_server": ServerSettings, "aiflow_client": ClientSettings}

    @pytest.mark.parametrize("name", FILES)
    def test_in_the_documentation_is_that_of_the_settings(self, name: str) -> None:
        published = (SCHEMAS / f"{name}.schema.json").read_text()

        schema = config.json_schema(self.FILES[name])

        assert json.loads(published) == schema, json.dumps(schema, indent=2)

    @pytest.mark.parametrize("name", FILES)
    def test_allows_the_file_with_the_defaults(self, name: str) -> None:
        text = config.default_file(self.FILES[name], "Settings")

        validator(self.FILES[name]).validate(yaml.safe_load(text))

    @pytest.mark.parametrize(
        "text",
        [
            "rpc_port: 1\ndb_uri: x\nrest_port: 8000\nenable_ha:\n",
            "rpc_port: ${env:PORT}\nhistory_retention: 30d\n",
        ],
    )
    def test_allows_what_is_understood(self, text: str) -> None:
        validator(ServerSettings).validate(yaml.safe_load(text))

    @pytest.mark.parametrize(
        "text", ["rpc_port: many\n", "rpc_prot: 1\n", "rpc_port: 70000\n", "enable_ha: perhaps\n"]
    )
    def test_refuses_what_is_refused(self, text: str, home: Path) -> None:
        (home / "aiflow_server.yaml").write_text(text)

        with pytest.raises(ConfigError):
            config.server_settings()
        with pytest.raises(jsonschema.ValidationError):
            validator(ServerSettings).validate(yaml.safe_load(text))


def validator(settings: type[Settings]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(config.json_schema(settings))


@pytest.mark.parametrize("settings", [ServerSettings, ClientSettings])
def test_the_reference_has_the_table_of_the_settings(settings: type[Settings]) -> None:
    page = (SCHEMAS.parent / "configuration.md").read_text()

    assert config.table(settings) in page


@pytest.mark.parametrize("settings", [ServerSettings, ClientSettings, ProjectSettings])
def test_every_key_says_what_it_is_for(settings: type[Settings]) -> None:
    assert not [key.name for key in config.keys(settings) if not key.description]


@pytest.mark.parametrize("settings", [ServerSettings, ClientSettings])
def test_every_key_that_is_not_retired_is_in_the_file_that_config_init_writes(
    settings: type[Settings],
) -> None:
    text = config.default_file(settings, "Settings")

    for key in config.keys(settings):
        assert (f"\n{key.name}:" in text) != bool(key.retired), key.name


@pytest.mark.parametrize("key", [k for k in config.keys(ServerSettings) if k.retired])
def test_a_retired_key_is_accepted_with_a_notice_of_what_takes_its_place(
    home: Path, key: config.Key
) -> None:
    text = yaml.safe_dump({key.name: key.default})
    (home / "aiflow_server.yaml").write_text(text)

    loaded = config.read_server()

    (notice,) = loaded.notices
    assert notice.startswith(f"{home / 'aiflow_server.yaml'}:1: {key.name} has no effect")
    assert key.retired in notice
    assert loaded.shown.keys() >= {key.name}
    assert App.configured().notices == (notice,)


def test_without_a_retired_key_there_is_no_notice(home: Path) -> None:
    assert config.read_server().notices == ()
    assert "rest_port" not in config.read_server().shown


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("30d", 2_592_000_000), ("1.5h", 5_400_000), ("90 s", 90_000), ("2w", 1_209_600_000)],
)
def test_a_retention_is_a_length_of_time(text: str, milliseconds: int) -> None:
    assert retention_ms(text) == milliseconds


@pytest.mark.parametrize("text", ["30", "d", "-1d", "0s", "a month", "1e9d", "9999999w"])
def test_what_is_no_length_of_time_is_refused(home: Path, text: str) -> None:
    (home / "aiflow_server.yaml").write_text(f"history_retention: '{text}'\n")

    with pytest.raises(ConfigError, match=r"yaml:1: history_retention: .*for example 30d"):
        config.server_settings()
