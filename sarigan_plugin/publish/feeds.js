// What the model is given for a scene: its inputs, as docs/onnx.md describes them.

import {latent} from './randn.js';

// {name: [Float32Array, shape]} for a scene {seed, trunc, classIdx, edits}.
export function feedsOf(scene, network) {
    const feeds = {
        z: [latent(scene.seed, network.z_dim), [1, network.z_dim]],
        truncation: [Float32Array.of(scene.trunc), [1]],
    };
    if (network.labels > 0)
        feeds.label = [label(scene.classIdx, network.labels), [1, network.labels]];
    if (network.layers.length > 0)
        addGroups(feeds, scene.edits, network);
    return feeds;
}

function label(classIdx, length) {
    return Array.isArray(classIdx) ? Float32Array.from(classIdx)
        : Float32Array.from({length}, (_, index) => index === classIdx ? 1 : 0);
}

function addGroups(feeds, edits, network) {
    const seeds = [...new Set(edits.flatMap(edit => [edit.inter_seed, edit.intra_seed]))].filter(seed => seed !== null);
    const others = seeds.length ? seeds : [0]; // The model wants one at least.
    feeds.other_z = [new Float32Array(others.length * network.z_dim), [others.length, network.z_dim]];
    others.forEach((seed, row) => feeds.other_z[0].set(latent(seed, network.z_dim), row * network.z_dim));
    for (const {name, num_groups: count} of network.layers) {
        feeds[`inter_scale.${name}`] = [new Float32Array(count).fill(1), [1, count]];
        feeds[`inter_shift.${name}`] = [new Float32Array(count), [1, count]];
        for (const kind of ['inter_share', 'intra_share'])
            feeds[`${kind}.${name}`] = [new Float32Array(others.length * count), [others.length, count]];
        feeds[`intra_step.${name}`] = [new Float32Array(count * network.code_dim), [count, network.code_dim]];
    }
    for (const edit of edits)
        for (const layer of edit.layers)
            apply(edit, layer, feeds, others);
}

// Each edit is one of what those before it made. All are linear in the styles, so one factor per seed holds them all.
function apply(edit, layer, feeds, others) {
    const array = kind => feeds[`${kind}.${layer}`][0];
    const count = array('inter_scale').length, {group} = edit;
    const cells = others.map((_, row) => row * count + group);
    const take = (shares, seed, mix) => {
        for (const cell of cells)
            shares[cell] *= 1 - mix;
        shares[cells[others.indexOf(seed)]] += mix;
    };
    const scale = array('inter_scale'), shift = array('inter_shift'), shares = array('inter_share');
    if (edit.inter_seed !== null) {
        take(shares, edit.inter_seed, edit.inter_mix);
        scale[group] *= 1 - edit.inter_mix;
        shift[group] *= 1 - edit.inter_mix;
    }
    for (const cell of cells)
        shares[cell] *= edit.inter_scale;
    scale[group] *= edit.inter_scale;
    shift[group] = shift[group] * edit.inter_scale + edit.inter_shift;
    if (edit.intra_seed !== null)
        take(array('intra_share'), edit.intra_seed, edit.intra_mix);
}
