"""Scoring networks against brains and behaviour, offline, with Brain-Score's definitions."""

from analysis.benchmark.form import Benchmark as Benchmark
from analysis.benchmark.form import Choices as Choices
from analysis.benchmark.form import Dissimilarities as Dissimilarities
from analysis.benchmark.form import Recording as Recording
from analysis.benchmark.form import read_benchmark as read_benchmark
