// A server that answers as it is told, on a thread of its own: `workerData` has its listening socket, the index of the message that it
// answers wrongly, and how.
import { workerData } from 'node:worker_threads';
import { closeFd } from '../../../dist/native/libc.js';
import { acceptFrom, FDS_MAX, Poll, Poller, SocketBuffer } from '../../../dist/native/socket.js';
import { Connection, Received } from '../../../dist/vfio-user/connection.js';
import { Command, Flag } from '../../../dist/vfio-user/messages.js';
import { answer } from './honest.mjs';

const { listener, at, how } = workerData;
const connection = new Connection(acceptFrom(listener));
const poller = new Poller(1);
const lies = { ...(how === 'major' && { major: 1 }), ...(how === 'class' && { pciClass: 0x020000 }) };

/** A header that says `size`, and no more of it than `length` bytes. */
function header(/** @type {number} */ id, /** @type {number} */ command, /** @type {number} */ size, length = 16) {
  const raw = new SocketBuffer(16);
  new Uint32Array(raw.bytes.buffer).set([(command << 16) | id, size, Flag.REPLY, 0]);
  raw.send(connection.fd, 0, length);
}

for (let count = 0; ; ) {
  const received = connection.receive();
  if (received === Received.NOTHING) {
    poller.set([connection.fd, Poll.IN]);
    poller.wait(1000);
    continue;
  }
  if (received !== Received.MESSAGE) break;
  for (const fd of connection.takeFds()) closeFd(fd);
  const wrong = count++ === at;
  const bytes = answer(connection, lies);
  const { id, command } = connection;
  if (how === 'late') poller.wait(150);
  if (how === 'fds') connection.send(id, command, bytes, Flag.REPLY, 0, new Array(FDS_MAX).fill(0));
  else if (!wrong || how === 'late' || how === 'major' || how === 'class') connection.send(id, command, bytes, Flag.REPLY);
  else if (how === 'close') break;
  else if (how === 'id') connection.send(id + 1, command, bytes, Flag.REPLY);
  else if (how === 'command') connection.send(id, command + 1, bytes, Flag.REPLY);
  else if (how === 'short') connection.send(id, command, Math.max(0, bytes - 1), Flag.REPLY);
  else if (how === 'errno') connection.send(id, command, 0, Flag.REPLY | Flag.ERROR, 5);
  else if (how === 'asks') connection.send(id, Command.DMA_MAP, 0, Flag.COMMAND);
  else if (how === 'half') header(id, command, 16 + bytes, 10);
  else if (how === 'bodyless') header(id, command, 16 + bytes + 1);
  else if (how === 'oversized') header(id, command, 0xffffffff);
  else if (how === 'tiny') header(id, command, 15);
  else if (how === 'garbage') {
    connection.outBody.fill(0xff, 0, 64);
    connection.send(0xffff, 0xffff, 64, 0xffffffff, 0xffffffff);
  }
}
connection.close();
