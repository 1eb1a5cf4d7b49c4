"""Ready models, and a recipe for each: its data, its loss and settings with which it trains well.

A model is a class in a file of this folder; a `Recipe` makes it a command: ``agrad train NAME``.
"""

from .autoencoder import Autoencoder, VariationalAutoencoder, negative_elbo, reconstruction_loss
from .boltzmann import RBM, DeepBeliefNetwork, pretrain
from .dates import INPUTS, LONGEST, OUTPUTS, Dates, date_parts
from .lenet5 import LeNet5
from .recipe import Recipe, Splits
from .recipes import RECIPES, bits, places, root_mean_square, squared_error
from .recommender import MatrixFactorisation, NeuralRecommender
from .recurrent import CharLSTM, SequenceClassifier, SequenceLoss
from .resnet import ResNet, resnet18, resnet20
from .simple import MLP, Logistic, Perceptron, XorNet
from .splits import (
    Mirrored,
    Padded,
    brightness_splits,
    date_splits,
    diamond_splits,
    fashion_splits,
    mirrored_splits,
    mnist_splits,
    rating_splits,
    text_splits,
    tumour_splits,
    vowel_splits,
    xor_splits,
    zero_or_one_splits,
    zeros_and_ones,
)
from .transformer import GPT, Seq2Seq
