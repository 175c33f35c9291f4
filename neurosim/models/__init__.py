"""Networks of the papers, each with a switch between convolution and local connectivity."""

from neurosim.models.free import free as free
from neurosim.models.lrlc import lrlc as lrlc
from neurosim.models.resnet import resnet as resnet
from neurosim.models.resnet import resnet18 as resnet18
from neurosim.models.resnet import resnet18_small as resnet18_small
from neurosim.models.resnet import resnet20 as resnet20
from neurosim.models.shallow_deep import deep as deep
from neurosim.models.shallow_deep import perceptron as perceptron
from neurosim.models.shallow_deep import shallow as shallow
from neurosim.models.simple import simple as simple
from neurosim.models.transformer import vision_transformer as vision_transformer
