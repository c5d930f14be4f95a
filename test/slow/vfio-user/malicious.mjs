// A server that keeps to the protocol until the user reads a register or rings a doorbell, and then does what it is told: `workerData` has
// its listening socket, what to do, and a word that the user sets when it is over.
import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { closeFd } from '../../../dist/native/libc.js';
import { acceptFrom, Errno, Poll, Poller, SocketBuffer } from '../../../dist/native/socket.js';
import { Connection, Received } from '../../../dist/vfio-user/connection.js';
import { Command, DMA_ACCESS_BYTES, Flag, Region } from '../../../dist/vfio-user/messages.js';
import { answer } from './honest.mjs';

const { listener, how, over, doorbells } = workerData;
const GRANTED = 0x10000;
const connection = new Connection(acceptFrom(listener));
const poller = new Poller(1);
const words = new Int32Array(over);
const ended = () => Atomics.load(words, 0) !== 0;
const pause = (/** @type {number} */ ms) => void Atomics.wait(words, 0, 0, ms);
/** @type {number[]} */
const interrupts = [];
let lost = false;

/** Asks for memory of the user's. */
function ask(/** @type {number} */ count) {
  connection.out.u64(0, GRANTED);
  connection.out.u64(8, count);
  lost ||= connection.send(1, Command.DMA_READ, DMA_ACCESS_BYTES, Flag.COMMAND) < 0;
}

/** Many such questions, for four bytes each, in one piece. */
const QUESTION_BYTES = 32;
const questions = new SocketBuffer(2048 * QUESTION_BYTES);
for (let at = 0; at < questions.bytes.length; at += QUESTION_BYTES) {
  new Uint32Array(questions.bytes.buffer, at, 8).set([Command.DMA_READ << 16, QUESTION_BYTES, 0, 0, GRANTED, 0, 4, 0]);
}

/** Sends all of them, and between two pieces does something else. */
function askThemAll(/** @type {() => void} */ meanwhile) {
  for (let at = 0; at < questions.bytes.length && !lost; ) {
    const sent = questions.send(connection.fd, at, questions.bytes.length - at);
    lost ||= sent < 0 && sent !== -Errno.EAGAIN;
    at += Math.max(sent, 0);
    meanwhile();
  }
}

/** Asks one of them in two pieces. */
function askIn(/** @type {number[]} */ pieces) {
  for (let [i, at] = [0, 0]; i < pieces.length; at += pieces[i++]) {
    questions.send(connection.fd, at, pieces[i]);
    pause(100);
    take(200);
  }
}

/** Takes what comes within some time, and answers it. */
function take(/** @type {number} */ ms) {
  for (const until = performance.now() + ms; !lost; ) {
    const received = connection.receive();
    if (received === Received.NOTHING) {
      lost ||= connection.flush() < 0;
      if (performance.now() >= until) return;
      poller.set([connection.fd, Poll.IN | (connection.sending ? Poll.OUT : 0)]);
      poller.wait(Math.max(0, Math.ceil(until - performance.now())));
    } else if (received === Received.MESSAGE) {
      if ((connection.flags & Flag.TYPE) === Flag.COMMAND) reply();
    } else lost = true;
  }
}

let provoked = false;

function reply() {
  const { id, command, flags, view, bodyBytes } = connection;
  const fds = connection.takeFds();
  if (command === Command.DEVICE_SET_IRQS) interrupts.push(...fds);
  else for (const fd of fds) closeFd(fd);
  const region = bodyBytes >= 12 ? view.getUint32(8, true) : -1;
  const access =
    (command === Command.REGION_READ && region === Region.BAR0) || (command === Command.REGION_WRITE && region === Region.BAR2);
  if (access && !provoked) {
    provoked = true;
    misbehave[how]?.();
    if (lost || ended()) return;
  }
  if (how === 'end' && provoked) return;
  if ((flags & Flag.NO_REPLY) !== 0) return;
  if (command === Command.DEVICE_GET_REGION_INFO && region === Region.BAR2 && doorbells) {
    connection.out.bytes(0, doorbells.body);
    connection.send(id, command, doorbells.body.length, Flag.REPLY, 0, doorbells.fds);
    return;
  }
  connection.send(id, command, answer(connection), Flag.REPLY);
}

/** @type {Record<string, () => void>} */
const misbehave = {
  /** Asks and asks, and never answers. */
  flood() {
    const sink = new SocketBuffer(1 << 16);
    const drain = () => {
      const got = sink.receiveBytes(connection.fd, 0, 1 << 16);
      lost ||= got === 0 || (got < 0 && got !== -Errno.EAGAIN);
    };
    for (const until = performance.now() + 5000; !lost && !ended() && performance.now() < until; ) askThemAll(drain);
    lost = true;
  },
  /** Asks for as much as it can, and reads nothing of it. */
  greed() {
    for (const until = performance.now() + 5000; !lost && !ended() && performance.now() < until; ) {
      if (connection.sending) lost ||= connection.flush() < 0;
      else ask(1 << 20);
    }
    lost = true;
  },
  /** Reads nothing. */
  deaf() {
    pause(3000);
  },
  nap() {
    pause(300);
  },
  /** Asks for something in the middle of a queue that it does not read. */
  halves() {
    pause(300);
    askIn([8, 24]);
  },
  storm() {
    const most = Buffer.from(new BigUint64Array([0xffff_ffff_ffff_fffen]).buffer);
    for (const until = performance.now() + 10_000; !lost && !ended() && performance.now() < until; ) {
      for (const fd of interrupts) {
        try {
          writeSync(fd, most);
        } catch {
          // full
        }
      }
      take(0);
    }
  },
};

/** @type {number[]} */
const asked = [];
function collect() {
  for (let received = connection.receive(); received !== Received.NOTHING; received = connection.receive()) {
    if (received !== Received.MESSAGE) lost = true;
    else if (connection.command === Command.REGION_READ) asked.push(connection.id);
    if (lost) return;
  }
}

while (!lost && !ended()) {
  if (how !== 'pester' || !provoked) take(50);
  else {
    // What the user wants is answered between two messages.
    askThemAll(collect);
    for (const id of asked.splice(0)) {
      connection.outBody.fill(0, 0, 24);
      connection.out.u32(12, 8);
      connection.send(id, Command.REGION_READ, 24, Flag.REPLY);
    }
    do take(0);
    while (connection.sending && !lost);
  }
}
connection.close();
for (const fd of interrupts) closeFd(fd);
