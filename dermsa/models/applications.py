"""The backbones that keras.applications offers.

Licences are those of the weights, as keras.applications states them. MobileNetV3Large's layer
numbers are the ablation's, counted in TensorFlow 2.7.
"""

from __future__ import annotations

import functools

import keras

from dermsa.models.backbone_record import Backbone, Cut

_APPS = keras.applications
_HOWARD = "Howard et al. 2019, arXiv:1905.02244"
_HE = "He et al. 2015, arXiv:1512.03385"
_ZOPH = "Zoph et al. 2017, arXiv:1707.07012"
_V3_LARGE_WITH_TOP = "mobilenet_v3_large_imagenet.weights.h5"


def _plus_3(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """The first step of hard-swish, a layer of its own before today's Keras made it one."""
    return tensor + 3.0


RECORDS = (
    Backbone(
        "MobileNetV2",
        _APPS.MobileNetV2,
        "minus_one_to_one",
        (224, 224),
        {
            "published": Cut("block_14_depthwise", (7, 7, 960)),
            "trunk": Cut("out_relu", (7, 7, 1280)),
        },
        "mobilenet_v2_imagenet_notop.weights.h5",
        "Apache-2.0",
        "Sandler et al. 2018, arXiv:1801.04381",
    ),
    Backbone(
        "MobileNetV3Small",
        _APPS.MobileNetV3Small,
        "internal",
        (224, 224),
        {
            "published": Cut("expanded_conv_10_depthwise_bn>", (7, 7, 576)),
            "trunk": Cut("conv_1_bn>", (7, 7, 576)),
        },
        "mobilenet_v3_small_imagenet_notop.weights.h5",
        "Apache-2.0",
        _HOWARD,
    ),
    Backbone(
        "MobileNetV3Large",
        _APPS.MobileNetV3Large,
        "internal",
        (224, 224),
        {
            # `[:240]`, the papers' best
            "published": Cut("expanded_conv_14_expand_bn>", (7, 7, 960)),
            "trunk": Cut("conv_1_bn>", (7, 7, 960)),
            "layer_230": Cut("expanded_conv_13_squeeze_excite_mul<1", (1, 1, 960)),
            "layer_246": Cut("expanded_conv_14_depthwise_bn>", (7, 7, 960)),
            "layer_251": Cut("expanded_conv_14_squeeze_excite_conv_1>", (1, 1, 960)),
            "layer_260": Cut("conv_1_bn", (7, 7, 960), _plus_3),
            "layer_266": Cut("conv_2", (1, 1, 1280), _plus_3, True, _V3_LARGE_WITH_TOP),
            "layer_270": Cut("conv_2>>", (1, 1, 1280), None, True, _V3_LARGE_WITH_TOP),
        },
        "mobilenet_v3_large_imagenet_notop.weights.h5",
        "Apache-2.0",
        _HOWARD,
    ),
    Backbone(
        "MobileNetV3LargeMinimalistic",
        functools.partial(_APPS.MobileNetV3Large, minimalistic=True),
        "internal",
        (224, 224),
        {
            "published": Cut("conv_1_bn>", (7, 7, 960)),
            "trunk": Cut("conv_1_bn>", (7, 7, 960)),
        },
        "mobilenet_v3_large_minimalistic_imagenet_notop.weights.h5",
        "Apache-2.0",
        _HOWARD,
    ),
    Backbone(
        "MobileNet",
        _APPS.MobileNet,
        "minus_one_to_one",
        (224, 224),
        {
            "published": Cut("conv_pw_13_relu", (7, 7, 1024)),
            "trunk": Cut("conv_pw_13_relu", (7, 7, 1024)),
        },
        "mobilenet_imagenet_notop.weights.h5",
        "Apache-2.0",
        "Howard et al. 2017, arXiv:1704.04861",
    ),
    Backbone(
        "NASNetMobile",
        _APPS.NASNetMobile,
        "minus_one_to_one",
        (224, 224),
        {
            "published": Cut("separable_conv_1_bn_normal_left5_12>", (7, 7, 176)),
            "trunk": Cut("normal_concat_12>", (7, 7, 1056)),
        },
        "nasnet_mobile_imagenet_notop.weights.h5",
        "Apache-2.0",
        _ZOPH,
    ),
    Backbone(
        "NASNetLarge",
        _APPS.NASNetLarge,
        "minus_one_to_one",
        (331, 331),
        {
            "published": Cut("separable_conv_1_bn_normal_left5_18>", (11, 11, 672)),
            "trunk": Cut("normal_concat_18>", (11, 11, 4032)),
        },
        "nasnet_large_imagenet_notop.weights.h5",
        "Apache-2.0",
        _ZOPH,
    ),
    Backbone(
        "InceptionResNetV2",
        _APPS.InceptionResNetV2,
        "minus_one_to_one",
        (299, 299),
        {
            # the BatchNormalization of the branch of one convolution
            "published": Cut("block8_9_mixed<0<0", (8, 8, 192)),
            "trunk": Cut("conv_7b_ac", (8, 8, 1536)),
        },
        "inception_resnet_v2_imagenet_notop.weights.h5",
        "Apache-2.0",
        "Szegedy et al. 2016, arXiv:1602.07261",
        min_size=75,
        sizes_by_map={(5, 5): (224, 224), (12, 12): (448, 448)},
    ),
    Backbone(
        "DenseNet201",
        _APPS.DenseNet201,
        "torch",
        (224, 224),
        {
            "published": Cut("conv5_block29_1_relu", (7, 7, 128)),
            "trunk": Cut("relu", (7, 7, 1920)),
        },
        "densenet201_imagenet_notop.weights.h5",
        "BSD-3-Clause",
        "Huang et al. 2016, arXiv:1608.06993",
    ),
    Backbone(
        "ResNet50",
        _APPS.ResNet50,
        "caffe_bgr",
        (224, 224),
        {
            "published": Cut("conv5_block3_out", (7, 7, 2048)),
            "trunk": Cut("conv5_block3_out", (7, 7, 2048)),
        },
        "resnet50_imagenet_notop.weights.h5",
        "MIT",
        _HE,
    ),
    Backbone(
        "ResNet152",
        _APPS.ResNet152,
        "caffe_bgr",
        (224, 224),
        {
            "published": Cut("conv5_block1_out", (7, 7, 2048)),
            "trunk": Cut("conv5_block3_out", (7, 7, 2048)),
        },
        "resnet152_imagenet_notop.weights.h5",
        "MIT",
        _HE,
    ),
    Backbone(
        "ResNet50V2",
        _APPS.ResNet50V2,
        "minus_one_to_one",
        (224, 224),
        {
            "published": Cut("post_relu", (7, 7, 2048)),
            "trunk": Cut("post_relu", (7, 7, 2048)),
            "conv5_block1_preact": Cut(
                "conv5_block1_preact_relu",
                (7, 7, 1024),
                weights_file="resnet50v2_trunk_conv5_block1_preact_imagenet.weights.h5",
            ),
        },
        "resnet50v2_imagenet_notop.weights.h5",
        "Apache-2.0",
        "He et al. 2016, arXiv:1603.05027",
    ),
    Backbone(
        "VGG16",
        _APPS.VGG16,
        "caffe_bgr",
        (224, 224),
        {
            "published": Cut("block5_pool", (7, 7, 512)),
            "trunk": Cut("block5_pool", (7, 7, 512)),
        },
        "vgg16_imagenet_notop.weights.h5",
        "CC-BY-4.0",
        "Simonyan and Zisserman 2014, arXiv:1409.1556",
    ),
)
