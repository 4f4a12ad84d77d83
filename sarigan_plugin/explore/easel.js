// The photo of `sarigan explore`, on which mouse, pen or finger paint a hole. A stroke is drawn here at once, and sent when it ends;
// `hole` is what the server has made of all strokes up to the number `done`.

const COLOUR = "#d6249f";
const MOST_POINTS = 500; // Of one stroke: a longer one is sent in parts.

export default {
  template: `
    <div class="easel">
      <img v-if="src" :src="src" :alt="alt" draggable="false">
      <canvas ref="canvas" role="img" aria-label="The hole, to be painted" :width="width" :height="height" :class="{veiled: veiled && !points}"
        @pointerdown="begin" @pointermove="move" @pointerup="end" @pointercancel="cancel" @pointerleave="at = null"></canvas>
      <div v-if="at" class="brush" :style="at"></div>
    </div>
  `,
  props: {
    src: String,
    alt: String,
    hole: String, // Address of an image, opaque where the hole is.
    width: Number, // Pixels of the photo, as are those of the brush.
    height: Number,
    brush: Number,
    erase: Boolean,
    veiled: Boolean, // Shows no hole, but takes strokes.
    done: Number,
  },
  data: () => ({ at: null, points: null }),
  created() {
    this.sent = 0; // Number of the last stroke.
    this.pending = []; // Strokes that the hole has not got yet.
    this.image = null;
  },
  mounted() {
    this.load();
  },
  watch: {
    hole: "load",
    done: "load",
    width: "load",
    height: "load",
  },
  methods: {
    async load() {
      const { hole, done } = this;
      const image = new Image();
      image.src = hole;
      await image.decode();
      if (hole !== this.hole || done !== this.done) return; // There is a newer one.
      this.image = image;
      this.pending = this.pending.filter((stroke) => stroke.number > done);
      this.redraw();
    },
    redraw() {
      const context = this.$refs.canvas?.getContext("2d");
      if (!context) return;
      context.clearRect(0, 0, this.width, this.height);
      if (this.image) context.drawImage(this.image, 0, 0);
      context.lineCap = context.lineJoin = "round";
      for (const stroke of this.points ? [...this.pending, this.stroke()] : this.pending) {
        context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
        context.lineWidth = stroke.width;
        context.beginPath();
        context.moveTo(...stroke.points[0]);
        stroke.points.forEach((point) => context.lineTo(...point));
        context.stroke();
      }
      context.globalCompositeOperation = "source-in";
      context.fillStyle = COLOUR;
      context.fillRect(0, 0, this.width, this.height);
      context.globalCompositeOperation = "source-over";
    },
    stroke() {
      return { number: this.sent + 1, points: this.points, width: this.brush, erase: this.erase };
    },
    // Where the photo lies on the canvas, whose pixels are of the photo: its left and upper edge, and its scale.
    place() {
      const box = this.$refs.canvas.getBoundingClientRect();
      const scale = Math.min(box.width / this.width, box.height / this.height);
      return { left: (box.width - scale * this.width) / 2, top: (box.height - scale * this.height) / 2, scale, box };
    },
    follow(event) {
      const { left, top, scale, box } = this.place();
      const x = event.clientX - box.left, y = event.clientY - box.top, size = `${this.brush * scale}px`;
      if (event.pointerType !== "touch") this.at = { left: `${x}px`, top: `${y}px`, width: size, height: size };
      return [(x - left) / scale, (y - top) / scale].map((number) => Math.round(number * 100) / 100);
    },
    begin(event) {
      if (!this.src || !event.isPrimary || event.button !== 0) return;
      this.$refs.canvas.setPointerCapture(event.pointerId);
      this.points = [this.follow(event)];
      this.redraw();
    },
    move(event) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const part of events.length ? events : [event]) {
        const point = this.follow(part);
        if (!this.points) continue;
        const last = this.points.at(-1);
        if (Math.hypot(point[0] - last[0], point[1] - last[1]) >= Math.max(this.brush / 8, 0.5)) this.points.push(point);
        if (this.points.length === MOST_POINTS) {
          this.send();
          this.points = [point];
        }
      }
      if (this.points) this.redraw();
    },
    end(event) {
      if (!this.points) return;
      this.points.push(this.follow(event));
      this.send();
    },
    send() {
      const stroke = this.stroke();
      this.points = null;
      this.sent = stroke.number;
      this.pending.push(stroke);
      this.$emit("stroke", stroke);
    },
    cancel() {
      this.points = null;
      this.redraw();
    },
  },
};
