// Scenes, which the page shows, and recipes, which `sarigan edit --recipe` reads and writes: version 2 of their JSON.

export const VERSION = 2, MAX_SEED = 2 ** 32 - 1, MAX_NUMBER = 1e6;
export const LINKED = 'linked'; // The layer that stands for groups of many layers.

// Of an edit that does nothing. The order is that of the files.
const EDIT = {
    layers: null, group: null, inter_scale: 1, inter_shift: 0, intra_seed: null, intra_mix: 1, inter_seed: null,
    inter_mix: 1, intra_component: null, intra_amount: 0,
};
const FIELDS = {edits: null, seeds: [0], trunc: 0.7, class_idx: 0, projected_w: null};

export class Unreadable extends Error {}

export const newEdit = (layer, group) => ({...EDIT, layers: [layer], group});

export const isSame = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// Whether an edit changes anything. A share of 0 is what a slider leaves behind.
export function doesSomething(edit) {
    const kept = edit.intra_mix === 0 ? {...edit, intra_seed: null, intra_mix: 1} : edit;
    return !isSame(kept, {...EDIT, layers: edit.layers, group: edit.group});
}

// What is done to a group, in words.
export function inWords(edit) {
    const part = mix => mix === 1 ? '' : `${Math.round(mix * 100)}% of `, words = [];
    if (edit.inter_seed !== null)
        words.push(`${part(edit.inter_mix)}how much of seed ${edit.inter_seed}`);
    if (edit.inter_scale !== 1)
        words.push(`times ${edit.inter_scale}`);
    if (edit.inter_shift !== 0)
        words.push(`plus ${edit.inter_shift}`);
    if (edit.intra_seed !== null && edit.intra_mix !== 0)
        words.push(`${part(edit.intra_mix)}the look of seed ${edit.intra_seed}`);
    return words.join(', ') || 'as it is';
}

// The recipe of a scene {seed, trunc, classIdx, edits}. It needs an edit: without one, `idle` stands there, unless that
// is null since there are no groups.
export function recipeOf(scene, idle) {
    const edits = scene.edits.filter(doesSomething);
    return {version: VERSION, edits: edits.length || !idle ? edits : [idle], seeds: [scene.seed], trunc: scene.trunc,
        class_idx: scene.classIdx, projected_w: null};
}

//----------------------------------------------------------------------------
// Reading. What is no recipe for this network throws Unreadable, with one sentence.

export function sceneOf(text, network) {
    let recipe;
    try {
        recipe = JSON.parse(text);
    } catch {
        throw new Unreadable('it is not JSON.');
    }
    if (!isObject(recipe))
        throw new Unreadable('it is not a recipe: an object with version and edits.');
    const {version, ...given} = recipe;
    if (![1, VERSION].includes(version))
        throw new Unreadable(`version: ${shown(version)} is unknown; this page reads versions 1 to ${VERSION}.`);
    refuseOtherKeys(given, FIELDS, '');
    const {edits, seeds, trunc, class_idx, projected_w} = {...FIELDS, ...given};
    for (const [field, list] of Object.entries({edits, seeds}))
        if (!Array.isArray(list) || (list.length === 0 && (field !== 'edits' || network.layers.length > 0)))
            throw new Unreadable(`${field}: ${shown(list)} is not a list with at least one entry.`);
    checkNumber('seeds', seeds[0], 0, MAX_SEED, true);
    checkNumber('trunc', trunc);
    checkClass(class_idx, network);
    if (projected_w !== null)
        throw new Unreadable('projected_w: the page makes images of seeds alone; `sarigan edit` takes this recipe.');
    const read = edits.map((fields, index) => readEdit(fields, `edits[${index}].`, network));
    const linked = read.filter(edit => edit.layers.includes(LINKED)).map(edit => edit.group);
    if (new Set(linked).size < linked.length) // Their styles are not linear in those of the ones before.
        throw new Unreadable('edits: the page does one edit of a linked group; `sarigan edit` takes this recipe.');
    return {seed: seeds[0], trunc, classIdx: class_idx, edits: read.filter(doesSomething)};
}

function readEdit(fields, place, network) {
    if (!isObject(fields))
        throw new Unreadable(`${place}edit: ${shown(fields)} is not an object with ${Object.keys(EDIT).join(', ')}.`);
    refuseOtherKeys(fields, EDIT, place);
    const edit = {...EDIT, ...fields};
    edit.layers = typeof edit.layers === 'string' ? [edit.layers] : edit.layers;
    if (!Array.isArray(edit.layers) || edit.layers.length === 0)
        throw new Unreadable(`${place}layers: ${shown(edit.layers)} is not a list of names of layers.`);
    for (const name of edit.layers) {
        const layer = network.layers.find(layer => layer.name === name);
        if (!layer) {
            const known = network.layers.map(layer => layer.name).join(', ') || 'none';
            throw new Unreadable(`${place}layers: ${shown(name)} is not a grouped layer; they are ${known}.`);
        }
        if (!layer.groups.includes(edit.group))
            throw new Unreadable(`${place}group: ${name} has no group ${shown(edit.group)} with channels; `
                + `those that have are ${layer.groups.join(', ')}.`);
    }
    checkNumber(`${place}inter_scale`, edit.inter_scale);
    checkNumber(`${place}inter_shift`, edit.inter_shift);
    for (const code of ['intra', 'inter']) {
        if (edit[`${code}_seed`] !== null)
            checkNumber(`${place}${code}_seed`, edit[`${code}_seed`], 0, MAX_SEED, true);
        checkNumber(`${place}${code}_mix`, edit[`${code}_mix`], 0, 1);
    }
    if (edit.intra_component !== null)
        throw new Unreadable(`${place}intra_component: the page has no components; `
            + '`sarigan edit` takes this recipe.');
    return edit;
}

export function checkNumber(field, value, low = -MAX_NUMBER, high = MAX_NUMBER, whole = false) {
    if (typeof value !== 'number' || !(value >= low && value <= high) || (whole && !Number.isInteger(value)))
        throw new Unreadable(
            `${field}: ${shown(value)} is not a ${whole ? 'whole ' : ''}number from ${low} to ${high}.`);
}

export function checkClass(value, network) {
    const length = network.labels;
    if (Array.isArray(value)) {
        if (value.length !== length)
            throw new Unreadable(length ? `class_idx: the label has ${value.length} numbers, and those of the network `
                + `have ${length}.` : 'class_idx: the network has no classes, and takes no label.');
        value.forEach(number => checkNumber('class_idx', number));
    } else if (length && network.label_kind === 'vectors') {
        throw new Unreadable(`class_idx: the network takes label vectors of ${length} numbers, and no classes.`);
    } else {
        checkNumber('class_idx', value, 0, Math.max(length, 1) - 1, true);
    }
}

function refuseOtherKeys(given, known, place) {
    const other = Object.keys(given).find(key => !Object.hasOwn(known, key));
    if (other !== undefined)
        throw new Unreadable(
            `${place}${other.slice(0, 40)}: there is no such key; they are ${Object.keys(known).join(', ')}.`);
}

const isObject = value => typeof value === 'object' && value !== null && !Array.isArray(value);
const shown = value => (JSON.stringify(value) ?? 'undefined').slice(0, 40);

//----------------------------------------------------------------------------
// Links. What comes after # stays in the browser: no server is told of it.

const PREFIX = '#recipe=';

export function linkTo(recipe, address) {
    const short = {...recipe, edits: recipe.edits.map(edit => Object.fromEntries(
        Object.entries(edit).filter(([field, value]) => !isSame(value, EDIT[field]))))};
    delete short.projected_w;
    const bytes = new TextEncoder().encode(JSON.stringify(short));
    const letters = btoa(String.fromCharCode(...bytes));
    return address.split('#')[0] + PREFIX + letters.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

// The text of the recipe in a link, or null where there is none. Throws Unreadable.
export function recipeInLink(fragment) {
    if (!fragment.startsWith(PREFIX))
        return null;
    try {
        const letters = fragment.slice(PREFIX.length).replaceAll('-', '+').replaceAll('_', '/');
        return new TextDecoder('utf-8', {fatal: true}).decode(Uint8Array.from(atob(letters), c => c.charCodeAt(0)));
    } catch {
        throw new Unreadable('it is cut off, or has other letters in it.');
    }
}
