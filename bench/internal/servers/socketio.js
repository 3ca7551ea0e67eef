// The benchmark's chat on Socket.IO, written as its documentation shows.
const { createServer } = require("node:http");
const { Server } = require("socket.io");

const http = createServer();
const io = new Server(http, { transports: ["websocket"] });

io.on("connection", (socket) => {
  socket.on("join", (room, done) => {
    socket.join(room);
    done();
  });
  socket.on("message", ({ room, data }) => {
    io.to(room).emit("message", data);
  });
});

http.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
  console.log(`127.0.0.1:${http.address().port}`);
});

// The process that started the server ends it by closing its standard input.
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
