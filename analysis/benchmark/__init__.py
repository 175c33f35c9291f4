"""Scoring networks against brains and behaviour, offline, with Brain-Score's definitions."""

from analysis.benchmark.candidates import Features as Features
from analysis.benchmark.candidates import Network as Network
from analysis.benchmark.candidates import pixels as pixels
from analysis.benchmark.form import Benchmark as Benchmark
from analysis.benchmark.form import Choices as Choices
from analysis.benchmark.form import Dissimilarities as Dissimilarities
from analysis.benchmark.form import Recording as Recording
from analysis.benchmark.form import read_benchmark as read_benchmark
from analysis.benchmark.scoring import Score as Score
from analysis.benchmark.scoring import Scoring as Scoring
from analysis.benchmark.scoring import score as score
