// A server that answers as it is told, on a thread of its own: `workerData` has its listening socket, the index of the message that it
// answers wrongly, and how.
import { workerData } from 'node:worker_threads';
import { closeFd } from '../../../dist/native/libc.js';
import { acceptFrom, Poll, Poller } from '../../../dist/native/socket.js';
import { Connection, Received } from '../../../dist/vfio-user/connection.js';
import { Command, encodeVersion, Flag } from '../../../dist/vfio-user/messages.js';

const { listener, at, how } = workerData;
const connection = new Connection(acceptFrom(listener));
const poller = new Poller(1);

/** An honest answer. @returns its bytes */
function answer() {
  const { command, body, out, view } = connection;
  const request = Buffer.from(body);
  const index = body.length >= 12 ? view.getUint32(8, true) : 0;
  switch (command) {
    case Command.VERSION: {
      const version = encodeVersion(how === 'major' ? 1 : 0, 0, { max_msg_fds: 8 });
      out.bytes(0, version);
      return version.length;
    }
    case Command.DEVICE_GET_INFO:
      for (const [i, value] of [16, 3, 9, 5].entries()) out.u32(4 * i, value);
      return 16;
    case Command.DEVICE_GET_REGION_INFO:
      for (const [i, value] of [32, 3, index, 0].entries()) out.u32(4 * i, value);
      out.u64(16, index === 0 ? 0x80000 : 0x8000);
      out.u64(24, 0);
      return 32;
    case Command.DEVICE_GET_IRQ_INFO:
      for (const [i, value] of [16, 9, index, 4].entries()) out.u32(4 * i, value);
      return 16;
    case Command.REGION_READ: {
      const count = request.readUInt32LE(12);
      const data = Buffer.alloc(count);
      if (index === 7 && request.readUInt32LE(0) === 8) data.writeUInt32LE((how === 'class' ? 0x020000 : 0x120100) << 8);
      out.bytes(0, Buffer.concat([request.subarray(0, 16), data]));
      return 16 + count;
    }
    case Command.REGION_WRITE:
      out.bytes(0, request.subarray(0, 16));
      return 16;
    default:
      return 0;
  }
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
  const bytes = answer();
  const { id, command } = connection;
  if (!wrong || how === 'major' || how === 'class') connection.send(id, command, bytes, Flag.REPLY);
  else if (how === 'close') break;
  else if (how === 'id') connection.send(id + 1, command, bytes, Flag.REPLY);
  else if (how === 'command') connection.send(id, command + 1, bytes, Flag.REPLY);
  else if (how === 'short') connection.send(id, command, Math.max(0, bytes - 1), Flag.REPLY);
  else if (how === 'errno') connection.send(id, command, 0, Flag.REPLY | Flag.ERROR, 5);
  else if (how === 'asks') connection.send(id, Command.DMA_MAP, 0, Flag.COMMAND);
  else if (how === 'garbage') {
    connection.outBody.fill(0xff, 0, 64);
    connection.send(0xffff, 0xffff, 64, 0xffffffff, 0xffffffff);
  } else if (how === 'half') {
    // The header promises more than comes.
    connection.out.u64(0, 0);
    connection.send(id, command, 0, Flag.REPLY);
    break;
  }
}
connection.close();
