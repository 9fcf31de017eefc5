// One datagram to a unix socket, which Node cannot send (unix(7)).

import * as libc from './libc.ts';
import { connect, SOCK_DGRAM } from './socket-calls.ts';
import { SysError } from './sys-error.ts';

const AF_UNIX = 1;
/** sun_path of struct sockaddr_un (linux/un.h). */
const PATH_MOST = 108;
const ENAMETOOLONG = 36;

/** Sends at once or throws SysError. A path that begins with `@` is an abstract name. */
export function sendUnixDatagram(path: string, text: string): void {
  const name = Buffer.from(path);
  if (name.length >= PATH_MOST) throw new SysError(`send to ${path}`, ENAMETOOLONG);
  // An abstract name begins with a zero instead, and is as long as the address says.
  const isAbstract = path.startsWith('@');
  if (isAbstract) name[0] = 0;
  const address = Buffer.alloc(2 + name.length + (isAbstract ? 0 : 1));
  address.writeUInt16LE(AF_UNIX);
  name.copy(address, 2);
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | libc.SOCK_NONBLOCK, 0);
  try {
    const result = connect(fd, address);
    if (result !== 0) throw new SysError(`connect ${path}`, -result);
    libc.send(fd, Buffer.from(text));
  } finally {
    libc.close(fd);
  }
}
