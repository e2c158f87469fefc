"""Torch modules around attention programs: attention, encoder and decoder layers, a cache."""

from regard.nn.attention import Attention
from regard.nn.cache import KeyValueCache
from regard.nn.layers import DecoderLayer, EncoderLayer
from regard.nn.programmed import Programmed

__all__ = ["Attention", "DecoderLayer", "EncoderLayer", "KeyValueCache", "Programmed"]
