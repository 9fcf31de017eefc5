// A second netlink socket that listens to changes of links, addresses, routes and neighbours, on the event loop.
//
// Order: notifications come in the order of the changes. The kernel queues the notification of a change before it acknowledges
// the change, so `drain()` after a request has seen what the request did. When the queue ran over (ENOBUFS) or something else
// was lost, `overrun` is called and the listener must read everything anew.

import * as libc from '../libc.ts';
import { isErrno } from '../sys-error.ts';
import { RTM_DELADDR, RTM_NEWADDR, readAddress } from './address.ts';
import { type Link, RTM_DELLINK, RTM_NEWLINK, readLink } from './link.ts';
import { decode } from './message.ts';
import { RTM_DELNEIGH, RTM_NEWNEIGH, readNeighbour } from './neighbour.ts';
import { RTM_DELROUTE, RTM_NEWROUTE, readRoute } from './route.ts';
import { netlinkAddress, trace } from './socket.ts';

const AF_NETLINK = 16;
// linux/rtnetlink.h: RTMGRP_LINK | NEIGH | IPV4_IFADDR | IPV4_ROUTE | IPV6_IFADDR | IPV6_ROUTE
const GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SO_RCVBUF = 8;
const DEFAULT_QUEUE_BYTES = 8 * 1024 * 1024;
/** Datagrams handled before the event loop gets its turn. */
const BATCH = 512;
const MOST_LOSSES = 4;

export interface MonitorListener {
  /** A link appeared, changed or (`removed`) went away. */
  link(link: Link, removed: boolean): void;
  /** An address, route or neighbour of the link with this index changed. */
  object(index: number): void;
  /** Notifications were lost. */
  overrun(): void;
  /** The socket is dead and nothing will come any more. */
  failed(error: Error): void;
}

export class Monitor {
  #fd: number;
  #poll: libc.Poll | undefined;
  readonly #listener: MonitorListener;
  readonly #bytes = Buffer.alloc(64 * 1024);
  readonly #sender = Buffer.alloc(12);
  notifications = 0;
  overruns = 0;

  /** Opens the socket in the current network namespace of the calling thread. Throws SysError. */
  constructor(listener: MonitorListener, queueBytes = DEFAULT_QUEUE_BYTES) {
    this.#listener = listener;
    this.#fd = libc.socket(AF_NETLINK, libc.SOCK_RAW | libc.SOCK_NONBLOCK, 0);
    try {
      try {
        libc.setsockoptInt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, queueBytes);
      } catch {
        libc.setsockoptInt(this.#fd, SOL_SOCKET, SO_RCVBUF, queueBytes);
      }
      libc.bind(this.#fd, netlinkAddress(GROUPS));
    } catch (error) {
      libc.close(this.#fd);
      throw error;
    }
    this.#listen();
  }

  /** Handles what has come so far, at most `limit` datagrams; answers whether the queue is empty. */
  drain(limit = Number.MAX_SAFE_INTEGER): boolean {
    let losses = 0;
    for (let count = 0; count < limit; count++) {
      if (this.#fd < 0) return true;
      let length: number;
      try {
        length = libc.receive(this.#fd, this.#bytes, this.#sender, libc.MSG_DONTWAIT);
      } catch (error) {
        if (isErrno(error, 'ENOBUFS')) {
          this.overruns++;
          this.#listener.overrun();
          // The kernel tells of a loss once; one that goes on is handled in later turns.
          if (++losses >= MOST_LOSSES) return false;
          continue;
        }
        this.close();
        this.#listener.failed(error as Error);
        return true;
      }
      if (length < 0) return true;
      if (this.#sender.readUInt32LE(4) !== 0) continue; // not from the kernel
      if (length > this.#bytes.length) {
        this.overruns++;
        this.#listener.overrun();
        continue;
      }
      try {
        this.#handle(this.#bytes.subarray(0, length));
      } catch (error) {
        // A listener that fails must not end the process from inside a callback: it gets a new start.
        this.close();
        this.#listener.failed(error as Error);
        return true;
      }
    }
    return false;
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#poll?.close();
    this.#poll = undefined;
    libc.close(this.#fd);
    this.#fd = -1;
  }

  #listen(): void {
    this.#poll = libc.pollReadable(this.#fd, (status) => {
      if (this.#fd < 0) return;
      this.drain(BATCH);
      // libuv stops a handle after an error such as a full queue: begin anew once that was read.
      if (status < 0 && this.#fd >= 0) {
        this.#poll?.close();
        this.#listen();
      }
    });
  }

  #handle(datagram: Buffer): void {
    for (const message of decode(datagram)) {
      this.notifications++;
      trace('!', message);
      switch (message.type) {
        case RTM_NEWLINK:
        case RTM_DELLINK: {
          // AF_BRIDGE tells of ports joining and leaving, not of links coming and going.
          const link = readLink(message.payload);
          if (link !== undefined && message.payload[0] === 0) this.#listener.link(link, message.type === RTM_DELLINK);
          else if (link !== undefined) this.#listener.object(link.index);
          break;
        }
        case RTM_NEWADDR:
        case RTM_DELADDR:
          this.#object(readAddress(message.payload));
          break;
        case RTM_NEWROUTE:
        case RTM_DELROUTE:
          this.#object(readRoute(message.payload));
          break;
        case RTM_NEWNEIGH:
        case RTM_DELNEIGH:
          this.#object(readNeighbour(message.payload));
          break;
      }
    }
  }

  #object(object: { index: number } | undefined): void {
    if (object !== undefined && object.index > 0) this.#listener.object(object.index);
  }
}
