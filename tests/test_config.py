from pathlib import Path

import msgspec
import pytest

from aiflow_core import config
from aiflow_core.config import ClientSettings, ServerSettings, Settings
from aiflow_core.errors import ConfigError


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

    (home / "aiflow_server.yaml").write_text(config.SERVER_FILE)
    (home / "aiflow_client.yaml").write_text(config.CLIENT_FILE)

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


@pytest.mark.parametrize("settings", [ServerSettings, ClientSettings])
def test_every_setting_with_an_effect_is_in_the_file_that_config_init_writes(
    settings: type[Settings],
) -> None:
    text = config.SERVER_FILE if settings is ServerSettings else config.CLIENT_FILE
    without_effect = {
        *("internal_rpc_port", "rest_port", "state_backend_uri", "history_retention", "db_type"),
        *("sql_alchemy_pool_enabled", "task_executor_heartbeat_check_interval"),
        *("task_heartbeat_timeout", "task_heartbeat_interval"),
    }

    for field in msgspec.structs.fields(settings):
        assert (f"\n{field.name}:" in text) != (field.name in without_effect), field.name
