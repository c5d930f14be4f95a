/** What a QEMU (10.1 or later) needs on its command line besides a machine: shared memory, and the devices. */
export function qemuArguments(sockets: readonly string[], { memory = '512M' }: { memory?: string } = {}): string[] {
  const devices = sockets.flatMap((path) => ['-device', JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path } })]);
  return [
    '-machine',
    'q35,memory-backend=mem0',
    '-object',
    `memory-backend-memfd,id=mem0,size=${memory},share=on`,
    '-m',
    memory,
    ...devices,
  ];
}
