// The page: what is on it, and what each part does to the scene. What the scene looks like is the worker's to work out.

import {feedsOf} from './feeds.js';
import {change, heatOverlay, shrink, toPixels} from './pictures.js';
import {checkClass, checkNumber, doesSomething, inWords, isSame, LINKED, linkTo, MAX_SEED, newEdit, recipeInLink,
    recipeOf, sceneOf, Unreadable} from './recipe.js';

const THUMBNAIL = 96;           // Pixels of a group's picture, at most.
const SMOOTH = 256;             // From this side on, pixels are too small to be shown one by one.
const NEW_SEED = 1;             // Where the look of a group comes from until a visitor chooses.
const MAX_STEPS = 200;          // That can be undone.
const MAX_FILE = 2 ** 20;       // Bytes of a recipe.
const MAX_CLASSES = 1000;       // That a list shows.

const byId = id => document.getElementById(id);
const network = await (await fetch('network.json')).json();

//----------------------------------------------------------------------------
// What the visitor has done.

let scene = {seed: 0, trunc: 0.7, classIdx: firstClass(), edits: []};
let past = [], future = [];     // Scenes.
let gesture = null;             // What the hand is at: its changes are one step.
let look = 'before';
// Neither the coarsest nor the finest layer; linked groups first.
let layer = network.layers.find(({name}) => name === LINKED) ?? network.layers[Math.floor(network.layers.length / 2)];
let group = layer?.groups[0];

function firstClass() {
    return network.labels && network.label_kind === 'vectors' ? Array(network.labels).fill(0) : 0;
}

function step(fields, ofGesture = null) {
    const next = {...scene, ...fields};
    if (isSame(next, scene))
        return;
    if (ofGesture === null || ofGesture !== gesture) {
        settle();
        past = [...past, scene].slice(-MAX_STEPS);
    }
    scene = next;
    future = [];
    gesture = ofGesture;
    show();
}

// The hand lets go: edits that do nothing are gone, and what comes next is another step.
function settle() {
    gesture = null;
    scene = {...scene, edits: scene.edits.filter(doesSomething)};
    if (past.length && isSame(past.at(-1), scene))
        past.pop(); // There and back again.
}

function travel(from, to) {
    settle();
    if (from.length === 0)
        return;
    to.push(scene);
    const next = from.pop();
    const other = [...next.edits, ...scene.edits].find(
        edit => next.edits.some(e => isSame(e, edit)) !== scene.edits.some(e => isSame(e, edit)));
    scene = next;
    if (other)
        select(other.layers[0], other.group);
    show();
}

function select(name, index) {
    layer = network.layers.find(other => other.name === name);
    group = layer.groups.includes(index) ? index : layer.groups[0];
}

// Of the edit at hand; the last one if a recipe had several of the group.
const indexAtHand = () => scene.edits.findLastIndex(edit => isSame(edit.layers, [layer.name]) && edit.group === group);
const atHand = () => scene.edits[indexAtHand()] ?? newEdit(layer.name, group);

function steer(fields, ofGesture = null) {
    const index = indexAtHand(), edit = {...atHand(), ...fields}, edits = [...scene.edits];
    edits.splice(index < 0 ? edits.length : index, 1, edit);
    step({edits}, ofGesture && `${ofGesture} ${layer.name} ${group}`);
}

// A share of 0 needs no seed, and one who chooses a seed wants some of it.
function steerField(field, value, ofGesture) {
    const edit = atHand(), fields = {[field]: value};
    if (field === 'intra_seed')
        fields.intra_mix = edit.intra_seed === null ? 1 : edit.intra_mix || 1;
    else if (field === 'intra_mix' && edit.intra_seed === null)
        fields.intra_seed = NEW_SEED;
    steer(fields, ofGesture);
}

function load(text) {
    const read = sceneOf(text, network);
    if (read.edits.length)
        select(read.edits.at(-1).layers[0], read.edits.at(-1).group);
    settle();
    step(read);
}

//----------------------------------------------------------------------------
// Drawing. One job at a time; of those asked for meanwhile the newest is enough.

let worker, answers = new Map(), jobs = 0;
let drawn = {};                 // What the pictures show: image (its key), before, maps, edits, after.
let isDrawing = false, isWanted = false;

const imageKey = of => JSON.stringify([of.seed, of.trunc, of.classIdx]);

function ask(ofScene, outputs) {
    return new Promise((resolve, reject) => {
        const id = ++jobs;
        answers.set(id, {resolve, reject});
        worker.postMessage({id, feeds: feedsOf(ofScene, network), outputs});
    });
}

async function draw() {
    isWanted = true;
    if (isDrawing)
        return;
    isDrawing = true;
    try {
        while (isWanted) {
            isWanted = false;
            await drawOnce(scene);
        }
    } catch (error) {
        say(`The image cannot be drawn (${error.message}).`, true);
    } finally {
        isDrawing = false;
    }
}

async function drawOnce(now) {
    const key = imageKey(now), edits = now.edits.filter(doesSomething);
    if (drawn.image !== key) {
        const made = await ask({...now, edits: []}, undefined);
        drawn = {image: key, before: pixelsOf(made), maps: made};
    }
    const after = edits.length ? pixelsOf(await ask({...now, edits}, ['image'])) : drawn.before;
    drawn.after = after;
    paint(byId('after'), after);
    if (network.layers.length) {
        paintBeside();
        paintGroups();
    }
    document.body.dataset.drawn = JSON.stringify([key, edits]); // For those who wait.
}

const pixelsOf = made => toPixels(made.image[0], network.resolution, network.colours);

function paint(canvas, image) {
    if (canvas.width !== image.size)
        canvas.width = canvas.height = image.size;
    canvas.getContext('2d').putImageData(new ImageData(image.data, image.size), 0, 0);
}

function mapOf(name, index) {
    const [numbers, shape] = drawn.maps[`attention.${name}`], side = shape[3];
    return [numbers.subarray(index * side * side, (index + 1) * side * side), side];
}

function paintBeside() {
    if (!drawn.after)
        return;
    const pictures = {
        before: () => drawn.before,
        attention: () => heatOverlay(drawn.before, ...mapOf(layer.name, group)),
        change: () => heatOverlay(drawn.before, change(drawn.before, drawn.after), network.resolution),
    };
    paint(byId('beside'), pictures[look]());
}

function paintGroups() {
    const key = `${drawn.image} ${layer.name}`, tiles = byId('groups');
    if (!drawn.before || tiles.dataset.painted === key)
        return;
    const small = shrink(drawn.before, THUMBNAIL);
    for (const tile of tiles.children)
        paint(tile.querySelector('canvas'), heatOverlay(small, ...mapOf(layer.name, Number(tile.dataset.group))));
    tiles.dataset.painted = key;
}

//----------------------------------------------------------------------------
// What is there.

function element(tag, properties = {}, ...content) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...content);
    return made;
}

const nameOf = (of, index) => of.names[index] ?? null;
const labelOf = (of, index) => `group ${index}` + (nameOf(of, index) === null ? '' : ` “${nameOf(of, index)}”`);

function build() {
    document.title = `${network.title} | SariGAN`;
    byId('title').textContent = network.title;
    document.body.classList.toggle('smooth', network.resolution >= SMOOTH);
    document.querySelectorAll('.dial[data-field]').forEach(buildDial);
    document.querySelectorAll('.dice').forEach(buildDice);
    onNumber(byId('seed'), 'Seed', seed => step({seed}), [0, MAX_SEED, true]);
    onNumber(byId('intra-seed'), 'Seed to take from', seed => steerField('intra_seed', seed), [0, MAX_SEED, true]);
    if (network.labels)
        buildClass();
    if (network.layers.length) {
        buildLayers();
        for (const radio of document.querySelectorAll('[name=look]'))
            radio.addEventListener('change', () => { look = radio.value; show(); });
    } else {
        document.body.classList.add('plain');
        document.querySelector('.stage').classList.add('alone');
        byId('after-heading').textContent = 'Image';
        byId('after').setAttribute('aria-label', 'The image');
        document.querySelector('.image').append(element('p', {className: 'note whole', textContent:
            'This network has no channel groups to edit; `sarigan regroup` gives it some.'}));
    }
    buildTools();
}

// A slider, and a number box for what lies beyond it.
function buildDial(row) {
    const {field, low, high, label} = row.dataset;
    const range = element('input', {type: 'range', min: low, max: high, step: 0.05});
    const box = element('input', {type: 'number', step: 0.05});
    range.setAttribute('aria-label', label);
    range.setAttribute('aria-description', row.title);
    box.setAttribute('aria-label', `${label}, number`);
    const set = (value, ofGesture) => field === 'trunc' ? step({trunc: value}, ofGesture)
        : steerField(field, value, ofGesture);
    range.addEventListener('input', () => set(Number(range.value), field));
    for (const kind of ['pointerup', 'blur']) // All that keys do to it meanwhile is one step.
        range.addEventListener(kind, () => { settle(); show(); });
    onNumber(box, label, value => set(value), field === 'intra_mix' ? [0, 1] : []);
    row.append(element('div', {textContent: label}), range, box);
    row.show = value => {
        range.value = value;
        if (document.activeElement !== box)
            box.value = Number(value.toFixed(4));
    };
}

function buildDice(button) {
    button.append(byId('dice').content.cloneNode(true));
    button.addEventListener('click', () => {
        const box = byId(button.dataset.box);
        box.value = Math.floor(Math.random() * 10000);
        box.dispatchEvent(new Event('change'));
    });
}

// limits: of checkNumber().
function onNumber(box, label, use, limits) {
    box.addEventListener('change', () => {
        try {
            const value = box.value === '' ? null : Number(box.value);
            checkNumber(label, value, ...limits);
            use(value);
        } catch (error) {
            complain(error);
            show();
        }
    });
}

function buildClass() {
    const isList = network.label_kind !== 'vectors' && network.labels <= MAX_CLASSES;
    const box = isList ? element('select', {id: 'class'}) : element('input', {type: 'text', id: 'class'});
    if (isList)
        box.append(...Array.from({length: network.labels},
            (_, index) => element('option', {value: index, textContent: `class ${index}`})));
    else
        document.querySelector('#class-row label').textContent = network.label_kind === 'vectors' ? 'Label' : 'Class';
    box.addEventListener('change', () => {
        try {
            const numbers = box.value.split(/[\s,]+/).filter(word => word).map(Number);
            const classIdx = numbers.length === 1 && network.label_kind !== 'vectors' ? numbers[0] : numbers;
            checkClass(classIdx, network);
            step({classIdx});
        } catch (error) {
            complain(error);
            show();
        }
    });
    byId('class-row').append(box);
    byId('class-row').hidden = false;
}

function showClass() {
    const box = byId('class'), {classIdx} = scene;
    const value = Array.isArray(classIdx) ? classIdx.join(',') : String(classIdx);
    if (box.tagName === 'SELECT') { // A recipe may mix classes.
        box.querySelector('.mixed')?.remove();
        if (Array.isArray(classIdx))
            box.append(element('option', {value, textContent: `label ${value}`, className: 'mixed'}));
    }
    box.value = value;
}

function buildLayers() {
    byId('layers').append(...network.layers.map(({name}) => {
        const tile = element('button', {className: 'tile'}, element('div', {textContent: name}));
        tile.dataset.layer = name;
        tile.addEventListener('click', () => { settle(); select(name, group); show(); });
        return tile;
    }));
}

function buildGroups() {
    const tiles = byId('groups');
    tiles.dataset.layer = layer.name;
    delete tiles.dataset.painted;
    tiles.replaceChildren(...layer.groups.map(index => {
        const picture = element('canvas', {className: 'picture'}), of = layer;
        picture.setAttribute('aria-hidden', 'true');
        const tile = element('button', {className: 'tile', title: labelOf(layer, index)}, picture,
            element('div', {textContent: nameOf(layer, index) ?? index}));
        tile.setAttribute('aria-label', labelOf(layer, index));
        tile.dataset.group = index;
        tile.addEventListener('click', () => { settle(); select(of.name, index); show(); });
        return tile;
    }));
}

//----------------------------------------------------------------------------
// What it shows.

function show() {
    byId('undo').disabled = past.length === 0;
    byId('redo').disabled = future.length === 0;
    byId('reset').disabled = scene.edits.length === 0;
    byId('seed').value = scene.seed;
    document.querySelector('[data-field=trunc]').show(scene.trunc);
    if (network.labels)
        showClass();
    if (network.layers.length)
        showGroups();
    draw();
}

function showGroups() {
    if (byId('groups').dataset.layer !== layer.name)
        buildGroups();
    const edit = atHand();
    byId('place').textContent = `${layer.name}, ${labelOf(layer, group)}`;
    byId('note').textContent = layer.notes[group] ?? '';
    byId('note').hidden = !layer.notes[group];
    for (const row of document.querySelectorAll('.column-right .dial[data-field]'))
        row.show(row.dataset.field === 'intra_mix' && edit.intra_seed === null ? 0 : edit[row.dataset.field]);
    byId('intra-seed').value = edit.intra_seed ?? NEW_SEED;
    for (const tile of byId('layers').children)
        tile.setAttribute('aria-pressed', tile.dataset.layer === layer.name);
    for (const tile of byId('groups').children)
        tile.setAttribute('aria-pressed', Number(tile.dataset.group) === group);
    const names = {before: 'Before the edits', attention: `What ${labelOf(layer, group)} of ${layer.name} attends to`,
        change: 'What the edits change'};
    byId('beside').setAttribute('aria-label', names[look]);
    if (drawn.image === imageKey(scene)) {
        paintGroups();
        paintBeside();
    }
    showEdits();
}

// One line for each edit: a click puts its group at hand, the cross takes it away.
function showEdits() {
    const lines = scene.edits.map((edit, index) => {
        const of = network.layers.find(other => other.name === edit.layers[0]);
        const tile = element('button', {className: 'tile'},
            element('div', {textContent: `${edit.layers.join(', ')}, ${labelOf(of, edit.group)}`}),
            element('div', {className: 'note', textContent: inWords(edit)}));
        tile.addEventListener('click', () => { settle(); select(of.name, edit.group); show(); });
        const remove = element('button', {className: 'remove', textContent: '✕', title: 'Remove the edit'});
        remove.setAttribute('aria-label', 'Remove the edit');
        remove.addEventListener('click', () => step({edits: scene.edits.filter((_, other) => other !== index)}));
        return element('div', {className: 'line'}, tile, remove);
    });
    const none = element('div', {className: 'note', textContent: 'None yet: choose a group and move a slider.'});
    byId('edits').replaceChildren(...(lines.length ? lines : [none]));
}

let hiding = 0;

function say(sentence, isBad = false) {
    const box = byId('message');
    box.textContent = sentence;
    box.classList.toggle('bad', isBad);
    box.hidden = false;
    clearTimeout(hiding);
    hiding = setTimeout(() => { box.hidden = true; }, isBad ? 10000 : 4000);
}

function complain(error, of = '') {
    if (!(error instanceof Unreadable))
        throw error;
    say(of + error.message, true);
}

//----------------------------------------------------------------------------
// Files and links.

const recipe = () => recipeOf(scene, network.layers.length ? newEdit(layer.name, group) : null);

function buildTools() {
    const tools = {
        undo: () => travel(past, future),
        redo: () => travel(future, past),
        reset: () => { settle(); step({edits: []}); },
        open: () => byId('file').click(),
        save: () => offer(new Blob([`${JSON.stringify(recipe(), null, 2)}\n`]), 'edit.json'),
        download: () => byId('after').toBlob(blob => offer(blob, `seed${`${scene.seed}`.padStart(4, '0')}.png`)),
        share,
    };
    for (const [id, use] of Object.entries(tools))
        byId(id).addEventListener('click', use);
    if (!network.layers.length)
        for (const id of ['reset', 'open', 'save']) // A recipe is of edits.
            byId(id).hidden = true;
    byId('file').addEventListener('change', openFile);
    window.addEventListener('hashchange', followLink);
    document.addEventListener('keydown', event => {
        const key = event.key.toLowerCase();
        if ((event.ctrlKey || event.metaKey) && !event.altKey && ['z', 'y'].includes(key)) {
            event.preventDefault();
            (event.shiftKey || key === 'y' ? tools.redo : tools.undo)();
        }
    });
}

function offer(blob, name) {
    const link = element('a', {href: URL.createObjectURL(blob), download: name});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function openFile() {
    const [file] = byId('file').files;
    byId('file').value = ''; // The same one may be chosen again.
    try {
        if (file.size > MAX_FILE)
            throw new Unreadable('a recipe has no more than a megabyte.');
        load(await file.text());
    } catch (error) {
        complain(error, `${file.name}: `);
    }
}

async function share() {
    const link = linkTo(recipe(), location.href);
    history.replaceState(null, '', link);
    try {
        await navigator.clipboard.writeText(link);
        say('The link is copied; it holds the recipe.');
    } catch { // Browsers let pages of https and localhost copy.
        say('The link is in the address bar; it holds the recipe.');
    }
}

function followLink() {
    try {
        const text = recipeInLink(location.hash);
        if (text !== null)
            load(text);
    } catch (error) {
        complain(error, 'The recipe in the link: ');
    }
}

//----------------------------------------------------------------------------
// The start.

// A worker that has the model, on a runtime. From a blob, so that this page's policy on servers holds there as well.
function start(runtime) {
    const base = new URL('.', location.href.split('#')[0]).href;
    const code = `import ${JSON.stringify(new URL('worker.js', base).href)};`;
    const address = URL.createObjectURL(new Blob([code], {type: 'text/javascript'}));
    const made = new Worker(address, {type: 'module'});
    return new Promise((resolve, reject) => {
        made.onerror = event => reject(new Error(event.message || 'the worker cannot start'));
        made.onmessage = ({data}) => {
            if (data.ready)
                resolve(made);
            else if (answers.has(data.id))
                settleAnswer(data);
            else
                reject(new Error(data.failed));
        };
        made.postMessage({base, runtime, model: network.model});
    });
}

function settleAnswer({id, results, failed}) {
    const {resolve, reject} = answers.get(id);
    answers.delete(id);
    if (failed)
        reject(new Error(failed));
    else
        resolve(results);
}

async function hasGpu() {
    try {
        const adapter = await navigator.gpu?.requestAdapter();
        return Boolean(adapter) && !adapter.info?.isFallbackAdapter;
    } catch {
        return false;
    }
}

// On a graphics processor where there is one that works, else by WebAssembly.
async function startFastest() {
    if (await hasGpu()) {
        try {
            worker = await start('webgpu');
            await ask(scene, ['image']);
            return 'WebGPU';
        } catch (error) {
            console.info(`WebGPU does not do: ${error.message}`);
            worker?.terminate();
        }
    }
    worker = await start('wasm');
    return 'WebAssembly';
}

try {
    const starting = startFastest();
    build();
    const how = await starting;
    byId('how').textContent = `Made in this browser, by ${how}: nothing is sent anywhere.`;
    byId('status').hidden = true;
    byId('main').hidden = false;
    followLink();
    show();
} catch (error) {
    byId('status').textContent = `The network cannot be opened: ${error.message}`;
    throw error;
}
