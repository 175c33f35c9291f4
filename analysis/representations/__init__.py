"""What networks respond: activations, their similarity, their invariance."""

from analysis.representations.activations import Activations as Activations
from analysis.representations.activations import Extraction as Extraction
from analysis.representations.activations import block_names as block_names
from analysis.representations.activations import extract as extract
from analysis.representations.activations import layer_names as layer_names
from analysis.representations.cka import linear_cka as linear_cka
from analysis.representations.invariance import TranslationIndices as TranslationIndices
from analysis.representations.invariance import translation_indices as translation_indices
from analysis.representations.similarity import Similarity as Similarity
from analysis.representations.similarity import compare as compare
from analysis.representations.similarity import dissimilarities as dissimilarities
from analysis.representations.similarity import evaluate as evaluate
from analysis.representations.similarity import noise_ceiling as noise_ceiling
from analysis.representations.stimuli import PictureFiles as PictureFiles
from analysis.representations.stimuli import Pictures as Pictures
from analysis.representations.stimuli import Stimuli as Stimuli
from analysis.representations.stimuli import View as View
