"""What publishers print, copied from their own pages, against the catalogue: no file of it is left out or misread."""

from __future__ import annotations

import pytest

from r2convert.catalog import Catalog
from r2convert.catalog.variant import Weights
from r2convert.checks.claims import PublishedNumbers
from r2convert.mapping.tables import Tables

# PaddleClas d178931f, docs/zh_CN/models/ImageNet1k/model_list.md: top-1, top-5, FLOPs (G), parameters (M). Where it
# gives no top-5 (SSLD), docs/en/models/SEResNext_and_Res2Net_en.md does.
PADDLECLAS = {
    "Res2Net50_26w_4s": ("res2net50_paddle_w26_s4.paddle", "0.7933", "0.9457", "4.28", "25.76"),
    "Res2Net50_14w_8s": ("res2net50_paddle_w14_s8.paddle", "0.7946", "0.9470", "4.20", "25.12"),
    "Res2Net50_vd_26w_4s": ("res2net50_vd_w26_s4.paddle", "0.7975", "0.9491", "4.52", "25.78"),
    "Res2Net50_vd_26w_4s_ssld": ("res2net50_vd_w26_s4.ssld", "0.831", "0.966", "4.28", "25.76"),
    "Res2Net101_vd_26w_4s": ("res2net101_vd_w26_s4.paddle", "0.8064", "0.9522", "8.35", "45.35"),
    "Res2Net101_vd_26w_4s_ssld": ("res2net101_vd_w26_s4.ssld", "0.839", "0.971", "8.35", "45.35"),
    "Res2Net200_vd_26w_4s": ("res2net200_vd_w26_s4.paddle", "0.8121", "0.9571", "15.77", "76.44"),
    "Res2Net200_vd_26w_4s_ssld": ("res2net200_vd_w26_s4.ssld", "0.8513", "0.9742", "15.77", "76.44"),
}
# The same, docs/en/models/SEResNext_and_Res2Net_en.md, which has 25.060 and 25.720, 8.370 and 9.010 exchanged; and
# docs/zh_CN/training/advanced/ssld.md, where a row has an accuracy of the plain weights and one of the distilled ones.
SERIES = {
    "Res2Net50_26w_4s": ("0.793", "0.946", "8.520", "25.700"),
    "Res2Net50_vd_26w_4s": ("0.798", "0.949", "8.370", "25.060"),
    "Res2Net50_vd_26w_4s_ssld": ("0.831", "0.966", "8.370", "25.060"),
    "Res2Net50_14w_8s": ("0.795", "0.947", "9.010", "25.720"),
    "Res2Net101_vd_26w_4s": ("0.806", "0.952", "16.670", "45.220"),
    "Res2Net101_vd_26w_4s_ssld": ("0.839", "0.971", "16.670", "45.220"),
    "Res2Net200_vd_26w_4s": ("0.812", "0.957", "31.490", "76.210"),
    "Res2Net200_vd_26w_4s_ssld": ("0.851", "0.974", "31.490", "76.210"),
}
SSLD = {
    "Res2Net50_vd_26w_4s": ("79.80",),
    "Res2Net50_vd_26w_4s_ssld": ("25.06", "8.37", "83.10"),
    "Res2Net101_vd_26w_4s": ("80.60",),
    "Res2Net101_vd_26w_4s_ssld": ("45.22", "16.67", "83.90"),
    "Res2Net200_vd_26w_4s": ("81.20",),
    "Res2Net200_vd_26w_4s_ssld": ("76.21", "31.49", "85.10"),
}
# Weights and statistics, and fvcore operations, counted by running PaddleClas' own networks.
COUNTED = {
    "res2net50_paddle_w26_s4": (25_758_612, 4_280_481_824),
    "res2net50_paddle_w14_s8": (25_122_612, 4_205_553_376),
    "res2net50_vd_w26_s4": (25_777_972, 4_521_728_032),
    "res2net101_vd_w26_s4": (45_345_108, 8_345_211_360),
    "res2net200_vd_w26_s4": (76_436_340, 15_772_761_504),
}
# timm aa4b5850, results/results-{imagenetv2-matched-frequency,sketch,imagenet-a,imagenet-r}.csv: top-1.
TIMM_ELSEWHERE = {
    "res2net50_w48_s2": ("65.240", "25.015", "3.600", "37.180"),
    "res2net50_w26_s4": ("65.980", "25.864", "5.067", "37.897"),
    "res2net50_w26_s6": ("67.030", "26.601", "6.533", "38.700"),
    "res2net50_w14_s8": ("66.030", "26.491", "4.880", "38.710"),
    "res2net50_w26_s8": ("67.380", "27.314", "7.813", "39.767"),
    "res2net101_w26_s4": ("67.420", "27.814", "9.413", "39.763"),
    "res2next50_w4_s4_c8": ("65.630", "25.400", "5.533", "37.530"),
    "res2net_dla60_w28_s4": ("67.140", "25.681", "7.507", "38.700"),
    "res2next_dla60_w4_s4_c8": ("66.730", "25.624", "7.773", "38.503"),
    "res2net50_v1b_w26_s4": ("68.390", "25.497", "14.613", "37.223"),
    "res2net101_v1b_w26_s4": ("69.450", "26.721", "21.613", "38.843"),
}
# mmdetection, configs/res2net/metafile.yml.
DETECTORS = {
    "faster_rcnn_r2_101_fpn_2x_coco": ("175f1da6", "43.0 box AP"),
    "mask_rcnn_r2_101_fpn_2x_coco": ("17f061e8", "43.6 box AP and 38.7 mask AP"),
    "cascade_rcnn_r2_101_fpn_20e_coco": ("f4b7b7db", "45.7 box AP"),
    "cascade_mask_rcnn_r2_101_fpn_20e_coco": ("8a7b41e1", "46.4 box AP and 40.0 mask AP"),
    "htc_r2_101_fpn_20e_coco": ("3a8d2112", "47.5 box AP and 41.6 mask AP"),
}
# PaddleDetection 666f597f, configs/res2net/README.md: what the backbone is, and the precision.
PADDLEDETECTION = {
    "faster_rcnn_res2net50_vb_26w_4s_fpn_1x_coco": ("res2net50_paddle_w26_s4", "40.6 box AP"),
    "mask_rcnn_res2net50_vb_26w_4s_fpn_2x_coco": ("res2net50_paddle_w26_s4", "42.4 box AP and 38.1 mask AP"),
    "mask_rcnn_res2net50_vd_26w_4s_fpn_2x_coco": ("res2net50_paddledet_w26_s4", "42.6 box AP and 38.1 mask AP"),
}
# The same before it was rewritten for PaddlePaddle 2 (06f22754^, static/configs/res2net/README.md): it has two networks
# of PaddleClas as backbones.
STATIC = {
    "faster_rcnn_res2net50_vb_26w_4s_fpn_1x": ("res2net50_paddle_w26_s4", "39.5 box AP"),
    "mask_rcnn_res2net50_vb_26w_4s_fpn_2x": ("res2net50_paddle_w26_s4", "40.7 box AP and 36.2 mask AP"),
    "mask_rcnn_res2net50_vd_26w_4s_fpn_2x": ("res2net50_vd_w26_s4", "40.9 box AP and 36.2 mask AP"),
    "mask_rcnn_res2net50_vd_26w_4s_fpn_dcnv2_1x": ("res2net50_vd_w26_s4", "43.5 box AP and 38.4 mask AP"),
}
FLOWVISION = "https://oneflow-public.oss-cn-beijing.aliyuncs.com/model_zoo/flowvision/classification/Res2Net/"
# What no address gives as a file that can be read: whose it is, the beginning of the page, what is said of it.
BY_HAND = {
    "Res2Net-v1b-152": ("official", "https://mailnankaieducn-my.sharepoint.com/", "on a page only"),
    "r2_101.pkl": ("official", "https://mailnankaieducn-my.sharepoint.com/", "in other names"),
    "panoptic_fpn_R2_101_3x": ("official", "https://mailnankaieducn-my.sharepoint.com/", "panoptic quality of 44.5"),
    "InSPyReNet_Res2Net50": ("inspyrenet", "https://drive.google.com/file/d/12moRuU8F0", "salient objects"),
    "res2net50_v1b_w26_s4.inspyrenet_pretrained": (
        "inspyrenet",
        "https://drive.google.com/file/d/1MMhioAsZ-",
        "starts",
    ),
    "mask_rcnn_res2net50_vd_26w_4s_fpn_dcnv2_1x": ("paddledet", "https://paddlemodels.bj.bcebos.com/", "deformable"),
    **{
        f"res2net{depth}_w{width}_s{scales}.flowvision": (
            "flowvision",
            f"{FLOWVISION}res2net{depth}_{width}w_{scales}s.zip",
            "a zipped OneFlow checkpoint",
        )
        for depth, width, scales in ((50, 26, 4), (50, 26, 6), (50, 26, 8), (50, 48, 2), (50, 14, 8), (101, 26, 4))
    },
}
# Pages of the Hugging Face hub: the commit that a file was seen at, and its SHA-256.
TIMM_FILES = {
    "res2net101d.in1k.safetensors": (
        "2f63b5624843229486071f878c0cdbb0ffd30a5f",
        "7e00980a876398f235a9a1e294a48be85e88bdd63db5f6834fd686db50ae02c4",
    ),
    "res2net50_26w_4s.in1k.bin": (
        "d73b44deaf5b068a3632893bc82400b7e9285169",
        "c2c4ebadfab380fcea2dde2be93965bcbfc5dc7621a516da2b1a39f69a47d0e8",
    ),
    "res2net101_26w_4s.in1k.bin": (
        "efe6ba03b2a3690cff854551235c33ca995e0337",
        "1524aa65d78a16921d45c5fdb499e04e7ee4cb7aab2c1a05ee0539c2ec258560",
    ),
    "res2net50_14w_8s.in1k.safetensors": ("7c191a2b6fb19bd2e8b4a4999f8c447ca3201e22", None),
    "res2net50d.in1k.safetensors": ("e940e287c899660a0c2a187122a0d6de2b0af6c3", None),
    "res2net50_26w_8s.in1k.safetensors": ("af308a2ffd76b40f94e3022c762f015f80c0e877", None),
}


def the_weights(catalog: Catalog, name: str) -> Weights:
    (found,) = catalog.find(name).weights
    return found


@pytest.mark.parametrize("name", PADDLECLAS)
def test_every_file_of_paddleclas_has_the_numbers_of_its_row(catalog: Catalog, name: str) -> None:
    identifier, *printed = PADDLECLAS[name]
    weights = the_weights(catalog, identifier)
    own = [claim for claim in weights.claims if claim.source.startswith("PaddleClas")]
    first = {claim.metric: claim.printed for claim in reversed(own)}
    assert [first["top1"], first["top5"], first["flops"], first["parameters"]] == printed
    series = {claim.metric: claim.printed for claim in own if claim.source == "PaddleClas Res2Net"}
    assert tuple(series[metric] for metric in ("top1", "top5", "flops", "parameters")) == SERIES[name]
    assert tuple(claim.printed for claim in own if claim.source == "PaddleClas SSLD") == SSLD.get(name, ())
    assert weights.protocol.pipeline == "opencv"
    source = weights.sources[0]
    assert (source.layout, source.format) == ("paddle", "pdparams")
    base = "https://paddle-imagenet-models-name.bj.bcebos.com/"
    assert source.urls == (f"{base}dygraph/{name}_pretrained.pdparams",)
    assert all(each.urls == (f"{base}{name}_pretrained.tar",) for each in weights.sources[1:])
    # 50 and 101 layers were distilled after Paddle 1.x had ended.
    assert (len(weights.sources) == 1) == (name in ("Res2Net50_vd_26w_4s_ssld", "Res2Net101_vd_26w_4s_ssld"))


@pytest.mark.parametrize("name", COUNTED)
def test_networks_of_paddleclas_are_counted_as_they_run(tables: Tables, name: str) -> None:
    numbers = PublishedNumbers(tables, tables.of(tables.catalog.find(name)))
    parameters, _ = numbers.parameters("paddle", statistics=True)
    assert (parameters, numbers.operations(unreachable=False).fvcore) == COUNTED[name]


@pytest.mark.parametrize("name", TIMM_ELSEWHERE)
def test_timm_has_its_numbers_on_four_more_sets(catalog: Catalog, name: str) -> None:
    weights = the_weights(catalog, f"{name}.timm")
    elsewhere = [claim for claim in weights.claims if claim.dataset != "imagenet"]
    assert [claim.metric for claim in elsewhere] == ["top1", "top5"] * 4
    assert tuple(claim.printed for claim in elsewhere if claim.metric == "top1") == TIMM_ELSEWHERE[name]
    datasets = ["imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r"]
    assert [claim.dataset for claim in elsewhere if claim.metric == "top1"] == datasets


@pytest.mark.parametrize("name", TIMM_FILES)
def test_files_of_timm_are_addressed_by_commit(catalog: Catalog, name: str) -> None:
    commit, digest = TIMM_FILES[name]
    sources = [source for variant in catalog.variants.values() for source in variant.sources]
    (source,) = (each for each in sources if each.file_name == name)
    assert f"/resolve/{commit}/" in source.urls[0]
    assert source.sha256 == digest


@pytest.mark.parametrize("name", DETECTORS)
def test_detectors_are_sources_of_mmdetections_backbone(catalog: Catalog, name: str) -> None:
    prefix, precision = DETECTORS[name]
    variant = catalog.find(name)
    assert variant.architecture == catalog.find_architecture("res2net101_mmdet_w26_s4").architecture
    (weights,) = variant.weights
    (source,) = weights.sources
    assert (source.layout, source.sha256_prefix) == ("mmdet", prefix)
    address = f"https://download.openmmlab.com/mmdetection/v2.0/res2net/{name}/{name}-{prefix}.pth"
    assert source.urls == (address,)
    assert weights.note.startswith(f"a detector with {precision} on COCO as printed, which r2convert does not measure")


@pytest.mark.parametrize("name", PADDLEDETECTION)
def test_detectors_are_sources_of_paddledetections_backbones(catalog: Catalog, name: str) -> None:
    architecture, precision = PADDLEDETECTION[name]
    variant = catalog.find(name)
    assert variant.id == architecture
    (weights,) = variant.weights
    (source,) = weights.sources
    assert source.layout == "paddledet"
    assert source.urls == (f"https://paddledet.bj.bcebos.com/models/{name}.pdparams",)
    assert weights.note.startswith(f"a detector with {precision} on COCO as printed, which r2convert does not measure")


@pytest.mark.parametrize("name", STATIC)
def test_older_detectors_of_paddledetection_have_paddleclas_backbones(catalog: Catalog, name: str) -> None:
    architecture, precision = STATIC[name]
    weights = the_weights(catalog, name)
    assert (weights.architecture, weights.detector) == (architecture, True)
    assert weights.note.startswith(f"a detector with {precision} on COCO as printed")
    address = f"https://paddlemodels.bj.bcebos.com/object_detection/{name}.tar"
    assert [source.layout for source in weights.sources] == ([] if weights.page else ["paddle-static"])
    assert [weights.page] == [address] if weights.page else weights.sources[0].urls == (address,)


@pytest.mark.parametrize("name", BY_HAND)
def test_what_cannot_be_fetched_or_read_has_a_page_and_says_what_it_is(catalog: Catalog, name: str) -> None:
    publisher, page, said = BY_HAND[name]
    weights = the_weights(catalog, name)
    assert weights.publisher == publisher
    assert weights.page.startswith(page)
    assert said in weights.note
    assert (weights.sources, weights.claims) == ((), ())


def test_weights_of_holocron_have_ten_classes_and_every_parameter(tables: Tables, catalog: Catalog) -> None:
    weights = the_weights(catalog, "res2net50_w26_s4.holocron")
    (source,) = weights.sources
    assert source.sha256 == "345170e8ff75d10330af55674090b0d9aa751e14b6f3b4a95bb8ea6cdd65be4b"
    assert source.size == 95_020_747
    numbers = PublishedNumbers(tables, tables.of(catalog.find("res2net50_w26_s4"), weights.classes))
    assert numbers.parameters("holocron") == (23_670_610, 0)
    assert [(claim.dataset, claim.printed) for claim in weights.claims[1:]] == [
        ("imagenette", "0.9394"),
        ("imagenette", "0.9941"),
    ]


# MindCV 1e3d281, configs/res2net/README.md.
MINDCV = {
    "res2net50_w26_s4": ("79.35", "94.64", "25.76"),
    "res2net101_w26_s4": ("79.56", "94.70", "45.33"),
    "res2net50_v1b_w26_s4": ("80.32", "95.09", "25.77"),
    "res2net101_v1b_w26_s4": ("81.14", "95.41", "45.35"),
}


@pytest.mark.parametrize("name", MINDCV)
def test_weights_of_mindcv_have_the_numbers_of_their_row(catalog: Catalog, name: str) -> None:
    weights = the_weights(catalog, f"{name}.mindcv")
    assert {claim.metric: claim.printed for claim in weights.claims} == dict(
        zip(("top1", "top5", "parameters"), MINDCV[name], strict=True)
    )
    (source,) = weights.sources
    assert (source.layout, source.format) == ("mindcv", "ckpt")
    prefix = source.file_name.removesuffix(".ckpt").rpartition("-")[2]
    assert prefix == source.sha256_prefix
    assert source.urls == (f"https://download.mindspore.cn/toolkits/mindcv/res2net/{source.file_name}",)
