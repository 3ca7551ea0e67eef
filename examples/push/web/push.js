// Subscribes this browser to notifications, and tells the server.
const status = document.querySelector('#status');

document.querySelector('#form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const name = document.querySelector('#name').value;
  try {
    // Browsers want this to follow a click.
    if (await Notification.requestPermission() !== 'granted') throw new Error('Notifications are not allowed');
    await navigator.serviceWorker.register('sw.js');
    const registration = await navigator.serviceWorker.ready;
    const key = await (await fetch('push/key')).text();
    const subscription = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
    const answer = await fetch('push/devices', {
      method: 'POST',
      headers: { Authorization: `Bearer ${name}` },
      body: JSON.stringify(subscription),
    });
    if (!answer.ok) throw new Error(await answer.text());
    status.textContent = `Messages for ${name} that are not read are shown on this device.`;
  } catch (error) {
    status.textContent = error.message;
  }
});
