// Shows notifications, also while no page is open.
self.addEventListener('push', (event) => {
  const n = event.data.json();
  const body = n.unread > 1 ? `${n.text}\n${n.unread} unread` : n.text;
  event.waitUntil(self.registration.showNotification(n.title, { body, tag: n.tag, renotify: true, data: n.url }));
});

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(self.clients.openWindow(event.notification.data));
});
