"""The words of the field, explained once: for `mkfa explain` and the README."""

from __future__ import annotations

GLOSSARY = {
    "arm": "One way to set the first layers' filters before training, and whether they are frozen: transfer, random, "
    "delta and others. All else is the same between arms, so that accuracy tells what the filters are worth. "
    "'mkfa transfer --help' lists them.",
    "atlas": "The clusters that the filters of one or several banks form, with prototypes and each bank's share.",
    "bank": "The depthwise filters of one network in one HDF5 file, with its layers and their source.",
    "base run": "A network trained on a domain from scratch. Its filters are what transfer and selffer borrow, and its "
    "accuracy is what arms are compared with (the arm 'baseline').",
    "basis": "The patterns that 'mkfa assign' fits. families: Gaussian derivatives; classes that coincide at a kernel "
    "size share a row. wide: elongated, oblique one-sided, third-order and shifted patterns as well, which also fit "
    "noise better. eight: models of the published key filters.",
    "baseline": "The arm that changes nothing: initialised and trained. It is always there.",
    "canonical form": "A filter less its mean, divided by its norm, with a fixed sign: what is left when gain, offset "
    "and sign do not matter.",
    "ceiling": "The value of a measure against filters without patterns: as unlike as chance makes two networks.",
    "checkpoint": "A file with the weights of a trained network; 'mkfa harvest' reads its filters into a bank.",
    "claim": "A sentence of the paper or of later ones, with a criterion that was fixed before the runs were seen. "
    "'mkfa claims' lists them with their verdicts.",
    "control": "An arm that is known to cost accuracy wherever filters matter, so that 'no drop' of another arm means "
    "something: random, delta, box.",
    "common parent": "Of two networks: one was trained from the other, or both from the same initial weights. It shows "
    "in filters of the same channel, which are far more alike than with channels permuted. Such networks are not "
    "independent evidence: they count once.",
    "coverage": "How well each filter of one bank is matched in the other: the mean |cos| with its nearest there, both "
    "ways round. coverage_at is the share of filters whose nearest has |cos| above a threshold.",
    "covariance": "The null of normal filters with the bank's own second moments (the mean products of two taps), in "
    "which smoothness and orientation are kept and single patterns are not.",
    "covariance-layer": "The strict null: as 'covariance', but with the second moments of every layer. Noise whose "
    "layers differ passes 'covariance', and this one no more often than it should.",
    "curve": "Accuracy against the number of layers, counted from the first, that are set and frozen.",
    "D / f^2": "Channels of a depthwise layer over the taps of its kernels. With D >= k f^2 channels and inputs of "
    "rank k, mixing channels alone can imitate any filters (arXiv 2404.01139), so that learned filters should matter "
    "where it is small. Every sweep prints it; 'mkfa transfer-sweep' varies it.",
    "dead filter": (
        "A filter whose largest weight is zero or under 1 % of the layer's typical (median) one, zeros aside; it is"
        " left out of analyses. The sparsity of 'mkfa assign --by-layer' is CNN Filter DB's: under 1 % of the largest."
    ),
    "delta": "The arm with identity kernels, which mix no pixels: it must hurt wherever filters matter.",
    "depthwise": "A convolution with one spatial filter for each channel: its kernels can be seen and compared.",
    "domain": "A labelled image set that networks are trained on, bundled, fetched, or a folder of your own.",
    "doubtful layer": (
        "A layer that names and channel counts do not settle: it has the shape of a depthwise one, but may be a dense"
        " convolution of one channel or a transposed one. harvest lists it with the reason; --include takes it."
    ),
    "EMA": (
        "Exponential moving average of a network's weights during training. Checkpoints often have both copies; harvest"
        " takes the averaged one and says so, and --weights raw takes the other."
    ),
    "equivalence": "Equal within a margin, shown by two one-sided tests: the whole 95 % interval of a difference lies "
    "inside the margins. 'Not significantly different' shows nothing of the kind.",
    "exchange of layers": "The test behind 'p differ': layers are swapped between two networks at random, and every "
    "layer gives the same number of filters. A small p says that the networks' layers are of different populations.",
    "explained variance": "R²: the square of the cosine between a filter and the best pattern, both less their mean.",
    "engine": "What carries training runs out: this machine (local), the nodes of a Ray cluster (ray), or the queue of "
    "Slurm (slurm). On CPUs results do not depend on it, to the bit.",
    "floor": "The value of a measure between two disjoint halves of one network: as alike as two sets can be.",
    "fraction": "Where a value lies between floor (0) and ceiling (1). With white noise as the ceiling any two "
    "networks look near; 'strictest' takes the null whose mean is most alike instead.",
    "freeze": "Keep weights as they are while the rest of the network is trained.",
    "gain and offset": "A filter times a factor plus a constant. Later layers and normalisation can make up for both, "
    "so filters that differ in nothing else count as the same.",
    "graft": "Filters of a trained network replaced by others, without training: each filter w by a f + b, f the "
    "nearest of a vocabulary. What is measured is how often the network still gives its own answer.",
    "harvest": "Read the depthwise filters of a trained network or checkpoint into a bank.",
    "jackknife": "How the 95 % intervals of a comparison are found: everything is computed again without each layer in "
    "turn. They are over the layers that another training could have given, and are printed for the measures whose "
    "intervals hold in simulation, from eight layers of each bank on, unless the banks have too little in common.",
    "Holm": "Holm's correction (1979) for several tests at once: the smallest p is multiplied by the number of tests, "
    "the next by one less, and so on. With it, the chance that any of them is below .05 for nothing is 5 % at most.",
    "key filter": "One of a few filters that explain all others up to gain and offset; 'mkfa keys' finds them.",
    "kind": "Filters of one kernel size, such as 5x5. Only filters of one kind can be compared.",
    "layer": "A depthwise layer. Layers count from 1, in order of execution, over the whole network.",
    "library": "The folder with the banks on this machine; 'mkfa banks' lists them.",
    "lineage": "Whether two networks have a common parent. 'mkfa compare' tests it by the |cos| of filters of the same "
    "channel, beside the same with the channels permuted.",
    "margin": "The difference that matters, in the criteria of claims a point of top-1: two arms that differ by less "
    "count as equal.",
    "matrix": "Transfer from every source to every target, each beside the target's own base runs.",
    "measure": "A number for how alike two sets of filters are: coverage, matching, transport, mmd and others.",
    "modulo sign": "A filter and its negative count as the same, since the next layer can reverse the sign.",
    "norm": "A layer that gives its input zero mean and unit spread, then a gain and an offset that are trained: "
    "batch, layer or group norm. After a frozen filter it can rescale and shift what the filter gives, "
    "unless --with-norm copies and freezes it too.",
    "null": "Filters drawn so that they have no patterns: shuffled taps, Gaussian noise, smooth noise, the same second "
    "moments, or an untrained network. What a measure gives on them is chance.",
    "p": "How often chance alone gives a value as extreme; adjusted by Holm's method where several are tested.",
    "pattern": "A Gaussian derivative or another analytic kernel that 'mkfa assign' fits to each filter.",
    "PERMANOVA": "The test of 'mkfa compare --group': do groups of networks lie at different places, by the "
    "distances between all networks? Networks are permuted. With few of them p cannot be small; the smallest "
    "possible p is said.",
    "PERMDISP": "The test beside it: do the networks of one group scatter more than those of another? Where they do, "
    "PERMANOVA may pass for that reason alone. Here it compares variances, and keeps its level for any distance.",
    "primary": "The one test that was chosen before looking, coverage under covariance-layer. All other p-values are "
    "exploratory: with so many of them, some are small by chance.",
    "recipe": "All that decides how a network is trained: epochs or steps, optimiser, augmentation, image size.",
    "residual mixer": "The default network of a curve, resmixer_C_L: C channels, L layers, one resolution, residuals "
    "around both halves of a layer, so that it trains well in minutes and its seeds differ little. Nothing but its "
    "depthwise layers mixes pixels after the patches, so that an experiment can see what their filters do.",
    "resolution": "The smallest true difference that an experiment would show (p < .05) in four of five repetitions, by"
    " its seeds and test images. Smaller differences may be there unseen.",
    "run": "One training with one seed. Its hash identifies it: the same request is never trained twice.",
    "scale": "What a verdict is about: laptop (bundled images of 32 px, minutes), gpu (small public data sets) or "
    "paper (the paper's data, network and recipe). What holds at one scale need not hold at another.",
    "seed": "The number from which all random draws of a run or an analysis follow.",
    "selffer": "Transfer of a network's filters into a fresh network for the same domain: what splitting trained "
    "layers costs by itself.",
    "sensitivity": "Whether an experiment could have seen that filters matter: how far its worst arm lies below the "
    "base runs.",
    "source": "In transfer, the domain, bank or checkpoint that filters come from.",
    "stack": "The arm that takes the source's filters as one row, so that networks of other shapes can be sources.",
    "stood in for": "Said of objects in a pickle that are not tensors: inert data stand in for them. mkfa reads their "
    "names and content as data, and imports or runs nothing. A bank lists which ones there were, and how many.",
    "strategy": "How runs share a device: one alone, in processes of their own, captured as CUDA graphs, or stacked: "
    "computed as one network whose channels lie side by side. Results differ by rounding at most.",
    "strictest": "The null that is hardest to tell from a network: the one whose mean is most alike. 'mkfa compare' "
    "gives the fraction with it as the ceiling, since against white noise any two networks look near.",
    "tap": "One weight of a kernel; a 5x5 kernel has 25.",
    "target": "In transfer, the domain that the network is trained and tested on.",
    "test error": "What the choice of test images adds to the uncertainty of an accuracy. All arms are tested on the "
    "same images, so that it is computed from the images on which two arms differ; runs of earlier "
    "versions, which did not record these, get an upper bound.",
    "training version": "Number of the training's meaning, a part of what identifies a run. Runs of an earlier "
    "version can be read, but are not resumed, taken as done or compared with newer ones.",
    "torchrun": "PyTorch's command that starts one program in several processes, its ranks, on one machine or several. "
    "'torchrun --nproc-per-node N -m mkfa work FOLDER' trains one run on N devices: each rank computes its rows of "
    "every batch, and all have the same weights.",
    "transfer": "Copy filters from a source into the first layers, freeze them, train the rest on the target.",
    "usable": "A filter that is neither dead, flat (all taps equal) nor non-finite; analyses use these alone.",
    "variance component": "A part of the squared distance of two networks: from their groups, from the networks "
    "themselves (models as a random effect), and from which filters of a network were drawn.",
    "verdict": "Supported, contradicted or inconclusive. It names its scale, seeds and sensitivity and the smallest "
    "difference that it could have seen; an inconclusive one says what is missing: runs, seeds, sensitivity or scale.",
    "vocabulary": "In a graft, the filters that may replace a network's own: some of a bank, its keys, analytic "
    "patterns, or a null.",
}
"""Word -> what it means."""
