"""docker-compose.yml and ops/Dockerfile say what the code understands; Docker itself cannot run here."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.stack import BESIDE, ROLES
from streams.settings import from_environment

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROCESSES = (*ROLES, *BESIDE)
PARTS = {"kafka", "postgres", "metabase", "metabase-database", "prometheus", "grafana", "setup", *PROCESSES}


def test_it_has_every_part() -> None:
    assert set(SERVICES) == PARTS


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_healthy_and_told_in_a_sentence(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), "a pinned version"
    assert service["healthcheck"].get("test") or service["healthcheck"].get("disable")
    assert re.search(rf"^  # [A-Z].*[.;].*\n  {name}:", TEXT, re.MULTILINE), "one sentence above the service"


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_exists_and_can_become_so(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"]
        else:
            assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("role", PROCESSES)
def test_a_process_gets_settings_that_the_code_reads(role: str) -> None:
    service = SERVICES[role]
    assert service["command"] == ["python", "-m", "ops.run", role]
    settings = from_environment(service["environment"])
    assert settings.connection.bootstrap == "kafka:9092"
    assert settings.metrics_port == 9400
    known = (ROOT / "streams" / "settings.py").read_text("utf-8")
    assert all(f'"{name}"' in known for name in service["environment"])


def test_the_archive_takes_the_logs_from_where_every_process_writes_them() -> None:
    where = from_environment(SERVICES["archive"]["environment"]).archive.logs
    for role in PROCESSES:
        assert from_environment(SERVICES[role]["environment"]).log_folder == where
        assert f"logs:{where}" in SERVICES[role]["volumes"]


def test_folders_that_volumes_cover_belong_to_the_user_of_the_image() -> None:
    dockerfile = (ROOT / "ops" / "Dockerfile").read_text("utf-8")
    (made,) = re.findall(r"install -d -o mailfleet -g mailfleet -m 0700 (.+)", dockerfile)
    volumes = {volume for role in PROCESSES for volume in SERVICES[role]["volumes"]}
    assert {volume.split(":")[1] for volume in volumes} == set(made.split())


def test_every_process_has_a_name_of_its_own() -> None:
    names = [SERVICES[role]["environment"]["MAILFLEET_NAME"] for role in PROCESSES]
    assert len(set(names)) == len(names)


def test_only_pages_for_people_and_the_door_are_reachable_and_those_on_loopback_alone() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(ports) == {"metabase", "prometheus", "grafana", "door", "page"}
    assert all(port.startswith("127.0.0.1:") for mapped in ports.values() for port in mapped)


def test_prometheus_asks_every_process_where_it_answers() -> None:
    config = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    assert set(job["static_configs"][0]["targets"]) == {f"{role}:9400" for role in PROCESSES}


def test_volumes_are_declared() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    named = {name for name in used if not name.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    assert all((ROOT / path).is_dir() for path in used - named)


def test_the_image_copies_what_the_project_is_made_of_and_does_not_run_as_root() -> None:
    lines = (ROOT / "ops" / "Dockerfile").read_text("utf-8").splitlines()
    for line in lines:
        if line.startswith("COPY"):
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users[-1:] == ["mailfleet"]
    assert any("--require-hashes" in line for line in lines)


def test_metabase_keeps_what_it_knows_in_a_database_of_its_own() -> None:
    own = SERVICES["metabase"]["environment"]["MB_DB_DBNAME"]
    read_models = SERVICES["fleet"]["environment"]["DATABASE_URL"].rpartition("/")[2]
    assert own != read_models
    assert f"createdb {own}" in SERVICES["metabase-database"]["command"][-1]
    assert "metabase-database" in SERVICES["metabase"]["depends_on"]
