"""Commands, metadata, session files, connections and settings on the pages are what they are said to be."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path

import airflow.providers.celery.get_provider_info as celery
import pytest
import typer
import yaml
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from airflow.models.connection import Connection
from page_blocks import BLOCKS, ROOT, blocks_in

from airflow_provider_ophys.get_provider_info import get_provider_info
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.models.metadata import validate_metadata
from airflow_provider_ophys.models.result import ImagingResult
from airflow_provider_ophys.sessions.session_yaml import SessionFile
from airflow_provider_ophys.staging.s3_store import S3Store
from airflow_provider_ophys.terminal.commands import app

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
OURS = typer.main.get_command(app).commands
# Their options are not ours to check.
PLAIN = {"mkdir", "cp", "cd", "git", "echo", "sudo"}


def ids(block):
    return str(block)


def test_every_language_is_one_that_is_tested():
    tested = {"python", "bash", "yaml", "json", "ini"}
    assert {block.language for block in BLOCKS} - tested <= {"text", "{toctree}", "{eval-rst}"}


def test_only_what_needs_elsewhere_is_not_run():
    reasons = {str(block): block.said for block in BLOCKS if block.mark == "not run"}
    assert all("needs" in reason for reason in reasons.values()), reasons


def commands_of(block):
    for line in block.text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


@pytest.mark.parametrize("block", [block for block in blocks_in("bash") if block.mark is None], ids=ids)
def test_a_command_takes_what_is_shown(block):
    for command in commands_of(block):
        check_command(command)


def check_command(words):
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    match words:
        case ["airflow", *arguments]:
            get_parser().parse_args(arguments)
        case ["python", *arguments]:
            check_python(arguments)
        case ["make", target, *_]:
            assert target in TARGETS
        case ["pip", "install", *packages]:
            check_extras(" ".join(packages))
        case ["export", setting]:
            check_setting(*setting.split("=", 1))
        case [program, *_]:
            assert program in PLAIN, words


def check_python(arguments):
    match arguments:
        case ["-m", "airflow_provider_ophys", name, *options]:
            OURS[name].make_context(name, options)
        case ["-c", code]:
            compile(code, "shown", "exec")
        case [file, *_] if not file.startswith("-"):
            assert (ROOT / file).exists()
        case _:
            assert arguments == ["-m", "airflow_provider_ophys"]


def check_extras(packages):
    for extras in re.findall(r"airflow-provider-ophys\[([a-z0-9,]+)\]", packages):
        assert set(extras.split(",")) <= EXTRAS.keys()


def check_setting(name, value):
    if name.startswith("AIRFLOW_CONN_"):
        Connection.from_json(value)
    else:
        section, option = re.fullmatch(r"AIRFLOW__(\w+?)__(\w+)", name).groups()
        assert is_an_option(section.lower(), option.lower()), name


def is_an_option(section, option):
    for provider in (celery.get_provider_info(), get_provider_info()):
        if section in provider.get("config", {}):
            return option in provider["config"][section]["options"]
    return conf.has_option(section, option)


@pytest.mark.parametrize("block", blocks_in("ini"), ids=ids)
def test_airflow_knows_every_setting(block):
    shown = configparser.ConfigParser(interpolation=None)
    shown.read_string(block.text)
    given = [(section, option) for section in shown.sections() for option in shown[section]]
    assert [one for one in given if not is_an_option(*one)] == []


@pytest.mark.parametrize("block", blocks_in("yaml"), ids=ids)
def test_yaml_is_metadata_or_a_session_file(block):
    if block.mark == "not run":
        assert list(yaml.safe_load_all(block.text))
        return
    shown = yaml.safe_load(block.text)
    if shown.keys() & SessionFile.model_fields.keys():
        SessionFile.model_validate(shown)
    else:
        validate_metadata(shown)


def jsons(*keys):
    shown = [(block, json.loads(block.text)) for block in blocks_in("json")]
    return [pytest.param(value, id=str(block)) for block, value in shown if set(keys) <= value.keys()]


def test_every_json_is_tested():
    known = [*jsons("conn_type"), *jsons("Statement"), *jsons("Rules"), *jsons("nwbfile_path")]
    assert len(known) == len(blocks_in("json"))


@pytest.mark.parametrize("shown", jsons("nwbfile_path"))
def test_a_result_has_the_fields_that_are_shown(shown):
    assert shown.keys() == ImagingResult.model_fields.keys()


@pytest.mark.parametrize("shown", jsons("conn_type"))
def test_a_connection_makes_the_client_that_it_says(shown, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SHOWN", json.dumps(shown))
    extra = shown.get("extra", {})
    hook = OphysS3Hook("shown")
    if "role_arn" in extra:
        # The client asks AWS for the role's credentials; what it would ask is known before.
        assert hook.conn_config.role_arn == extra["role_arn"]
        assert hook.conn_config.region_name == extra["region_name"]
        return
    config = hook.conn.meta.config
    assert hook.conn.meta.region_name == extra["region_name"]
    assert hook.conn.meta.endpoint_url.startswith(extra.get("endpoint_url", "https://s3."))
    for name, value in extra.get("config_kwargs", {}).get("s3", {}).items():
        assert config.s3[name] == value
    if "verify" in extra:
        assert hook.verify == extra["verify"]
    hook.conn.close()


# What AWS asks for each request of ours.
RIGHTS = {
    "get_object": {"s3:GetObject"},
    "head_object": {"s3:GetObject"},
    "list_objects_v2": {"s3:ListBucket"},
    "put_object": {"s3:PutObject"},
    "delete_objects": {"s3:DeleteObject"},
    "delete_object": {"s3:DeleteObject"},
    "create_multipart_upload": {"s3:PutObject"},
    "upload_part": {"s3:PutObject"},
    "upload_part_copy": {"s3:PutObject", "s3:GetObject"},
    "complete_multipart_upload": {"s3:PutObject"},
    "abort_multipart_upload": {"s3:AbortMultipartUpload"},
    "list_multipart_uploads": {"s3:ListBucketMultipartUploads"},
    "list_parts": {"s3:ListMultipartUploadParts"},
}


@pytest.mark.parametrize("shown", jsons("Statement"))
def test_a_policy_allows_what_staging_asks_for_and_no_more(shown):
    source = Path(__import__(S3Store.__module__, fromlist=["_"]).__file__).read_text()
    asked = set(re.findall(r"self\.client\.(\w+)\b", source)) | set(re.findall(r'"(list_\w+)"', source))
    asked -= {"get_paginator", "meta", "exceptions", "close"}
    assert asked <= RIGHTS.keys()
    needed = set().union(*(RIGHTS[request] for request in asked))
    allowed = {action for statement in shown["Statement"] for action in statement["Action"]}
    assert allowed == needed
