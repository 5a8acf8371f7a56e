"""What a recipe may tell an SGLang server: an allow-list of arguments by whole names, addresses without secrets."""

from __future__ import annotations

import pytest
from places import RECIPES

from dpr_mini.engines.sglang import launch
from dpr_mini.recipe import EngineConfig, Places, RecipeError, load, parse, serving

# Of 0.5.9 and 0.5.23: what binds, serves another model, loads code, reads or writes files, or says who may ask.
PROTECTED = """
host port trust_remote_code model model_path config api_key admin_api_key tokenizer_path tokenizer_mode
tokenizer_worker_num load_format custom_weight_loader model_loader_extra_config model_impl download_dir revision
lora_paths enable_lora chat_template completion_template json_model_override_args quantization_param_path
speculative_draft_model_path speculative_token_map forward_hooks custom_sigquit_handler enable_custom_logit_processor
crash_dump_folder debug_tensor_dump_output_folder export_metrics_to_file_dir file_storage_path log_requests
modelopt_export_path delete_ckpt_after_loading hicache_storage_backend kv_events_config otlp_traces_endpoint
dist_init_addr nccl_port nnodes grpc_mode grpc_port sidecar use_ray tool_server ssl_keyfile_password
skip_tokenizer_init served_model_name enable_dp_attention disaggregation_mode weight_cache_socket watermark_config
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", PROTECTED)
def test_what_loads_opens_writes_or_lets_in_is_refused_in_every_spelling(name):
    beginnings = [name[:n] for n in range(1, len(name) + 1)]
    spellings = {*beginnings, name.replace("_", "-"), f"{name}=x", f"--{name}", f" {name}", name.upper(), f"{name}\n"}
    for spelling in spellings - serving.ARGUMENTS:
        with pytest.raises(ValueError, match="is not to be set here") as caught:
            serving.arguments({spelling: "S3CRET"})
        assert "S3CRET" not in str(caught.value)
    assert name not in serving.ARGUMENTS


@pytest.mark.parametrize("value", ["--host", "-x", "a b", "a=b\n", "/etc/passwd", "{}", "", "x" * 101, "\0", "\ud800"])
def test_a_value_is_a_number_a_word_or_a_switch(value):
    """argparse takes a value that begins with - for the next argument; a zero byte ends no command line."""
    with pytest.raises(ValueError, match="takes a number, a word"):
        serving.arguments({"dtype": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("attention_backend", -0.5), ("dtype", True), ("schedule_policy", 3), ("tp_size", -7), ("page_size", 10**40)],
)
def test_what_no_server_can_mean_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"'{name}' takes a (word|number from -1)"):
        serving.arguments({name: value})


@pytest.mark.parametrize("share", [0, 1, 1.5, -1, 85, "much", "'0.85'", "true"])
@pytest.mark.parametrize("name", ["mem_fraction_static", "mem-fraction-static"])
def test_a_share_of_the_cards_memory_is_one(tmp_path, name, share):
    path = tmp_path / "r.yaml"
    quoted = f"'{share}'" if share == "0.85" else share
    path.write_text(
        f"name: r\nproblems: {{train: [{{file: t}}]}}\nengine:\n  kind: sglang\n  arguments: {{{name}: {quoted}}}\n"
    )
    with pytest.raises(RecipeError) as caught:
        load(path)
    assert str(caught.value).startswith(
        f"{path}:5: engine.arguments: 'mem_fraction_static' takes a share of the card's"
    )


def test_the_section_has_sglangs_own_names_whatever_the_recipe_writes():
    given = {"mem-fraction-static": 0.5, "kv-cache-dtype": "fp8_e5m2", "disable-radix-cache": True}
    config = EngineConfig(kind="sglang", arguments=given)
    assert config.arguments == {name.replace("-", "_"): value for name, value in given.items()}
    assert config.changes_samples() == {"kind": "sglang", "kv_cache_dtype": "fp8_e5m2"}
    assert launch.memory_share(config.arguments) == 0.5
    assert launch.memory_share(EngineConfig(kind="sglang", arguments={"mem-fraction-static": None}).arguments) == 0.85


def test_good_ones_pass_by_sglangs_own_names():
    given = {"mem-fraction-static": 0.85, "tp_size": 2, "kv_cache_dtype": "fp8_e5m2", "enable_metrics": True}
    assert serving.arguments(given) == {k.replace("-", "_"): v for k, v in given.items()}
    assert serving.arguments({"device": "cuda:0", "max_total_tokens": None, "random_seed": -1})
    with pytest.raises(ValueError, match="there twice"):
        serving.arguments({"tp-size": 1, "tp_size": 2})
    with pytest.raises(ValueError, match="did you mean 'mem_fraction_static'"):
        serving.arguments({"mem_fraction_statics": 1})


@pytest.mark.parametrize(
    "url",
    [
        "http://user:S3CRET@h:1", "http://S3CRET@h", "https://user:S3@CRET@h/x", "http://user:S3CRET/x@h:1",
        "http://h:1/?api_key=S3CRET", "//user:S3CRET@h", "user:S3CRET@h:1", "http://user:S3CRET" * 9,
    ],
)  # fmt: skip
def test_an_address_with_a_secret_is_refused_and_not_repeated(url):
    raw = {"name": "r", "engine": {"kind": "sglang", "urls": url}, "problems": {"train": [{"file": "x"}]}}
    places = Places({("engine", "urls"): f"override 'urls={url}'"})
    for urls in (url, [url], ["http://h:1", url]):
        with pytest.raises(RecipeError, match=r"engine\.urls: ") as caught:
            parse(raw | {"engine": {"kind": "sglang", "urls": urls}}, "r", places)
        assert "CRET" not in str(caught.value), str(caught.value)


def test_a_secret_of_the_wrong_type_is_not_repeated_either():
    for arguments in ({"api_key": ["S3CRET"]}, {"admin_api_key": {"a": "S3CRET"}}, {"hf_token": "S3CRET"}):
        with pytest.raises(RecipeError, match=r"engine\.arguments\.\w+: ") as caught:
            parse({"name": "r", "engine": {"kind": "sglang", "arguments": arguments}, "problems": {}}, "r")
        assert "S3CRET" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "{api_key: S3CRET}", "{admin-api-key: 'S3CRET'}", '{"api_key": "S3CRET"}', "{dtype: auto, hf_token : S3CRET}",
        "{a: {b: [{password: S3CRET}]}}", "[{api_key: S3CRET}]", "api_key: S3CRET", "{token: S3CRET", "api_key:S3CRET",
        "{? api_key : S3CRET}", "{api_key=S3CRET: 1}", "'--api-key=S3CRET'", "{api_key: &x S3CRET, api_key: *x}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ["engine.arguments=", "engine.arguments ", "engine=", "engine.arguments.x=", "seed="])
def test_an_override_with_a_secret_is_named_without_it(key, value):
    with pytest.raises(RecipeError, match=r"^override '[\w.]+=\*\*\*': ") as caught:
        load(RECIPES / "smoke.yaml", [key + value])
    assert "S3CRET" not in str(caught.value), str(caught.value)


def test_an_override_without_a_secret_is_named_as_it_is():
    for override in ("engine.arguments={tokens: 5}", "train.epochs={max_new_tokens: 1}", "train.epochs=" + "x" * 10**5):
        with pytest.raises(RecipeError) as caught:
            load(RECIPES / "smoke.yaml", [override])
        assert str(caught.value).startswith(f"override '{override[:100]}")


def test_what_is_no_address():
    with pytest.raises(ValueError, match=r"no \? and # in an address"):
        serving.address("http://h:1#x")
    for url in ("h:1", "ftp://h", "http://", "http://h:0", "http://h:99999", "http://h h", "http://h\x1b", "x", ""):
        with pytest.raises(ValueError, match="no address; write http://host:port"):
            serving.address(url)
    for url in ("http://127.0.0.1:30000", "https://a.b/c", "http://[::1]:3"):
        assert EngineConfig(kind="sglang", urls=url).urls == (url,)
